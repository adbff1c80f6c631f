// From the table of errors to the enum that the API tells them by. Any thread.
#ifndef ENGINE_BACKEND_ERROR_REASON_H_
#define ENGINE_BACKEND_ERROR_REASON_H_

#include "absl/status/status.h"
#include "engine/base/error.h"
#include "tidemark/block/v1/common.pb.h"

namespace tidemark::backend {

::tidemark::block::v1::ErrorReason ToProto(Reason reason);

// UNSPECIFIED for a status without details.
::tidemark::block::v1::ErrorReason ErrorReasonOf(const absl::Status& status);

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_ERROR_REASON_H_
