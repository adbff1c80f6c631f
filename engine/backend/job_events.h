// The events that tell of a job as a whole.
#ifndef ENGINE_BACKEND_JOB_EVENTS_H_
#define ENGINE_BACKEND_JOB_EVENTS_H_

#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::backend {

// JOB_PROGRESS with all that it tells of `job`, in `status`.
::tidemark::block::v1::Event ProgressOf(const ::tidemark::block::v1::Job& job,
                                        ::tidemark::block::v1::JobStatus status);

// JOB_STATUS_CHANGE of `job` to `status`.
::tidemark::block::v1::Event StatusChangeOf(const ::tidemark::block::v1::Job& job,
                                            ::tidemark::block::v1::JobStatus status);

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_JOB_EVENTS_H_
