// How long a file name may keep QEMU waiting. To QEMU a name that begins with "json:" is the
// options of a node, and those that say how long it tries to connect block its monitor meanwhile.
// Pure functions; any thread.
#ifndef ADAPTERS_QMP_WAIT_GUARD_H_
#define ADAPTERS_QMP_WAIT_GUARD_H_

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// The names of files that `request` has opened. INVALID_ARGUMENT (kInvalidField), naming field and
// option: a "json:" name with an `open-timeout` or `timeout` beyond what the typed options allow,
// or one that cannot be read here, for QEMU's JSON also has single quotes.
absl::Status CheckWaits(const google::protobuf::Message& request);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_WAIT_GUARD_H_
