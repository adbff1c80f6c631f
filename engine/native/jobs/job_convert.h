// The job package's words in those of the API, and back. Pure functions; any thread.
#ifndef ENGINE_NATIVE_JOBS_JOB_CONVERT_H_
#define ENGINE_NATIVE_JOBS_JOB_CONVERT_H_

#include <string>

#include "absl/status/status.h"
#include "engine/job/backup_options.h"
#include "engine/job/error_policy.h"
#include "engine/job/job_options.h"
#include "engine/job/job_snapshot.h"
#include "engine/job/state.h"
#include "tidemark/block/v1/common.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::native {

block::v1::JobStatus ToProto(job::JobStatus status);
block::v1::JobType ToProto(job::JobType type);
block::v1::BlockDeviceIoStatus ToProto(job::IoStatus status);
// What `snapshot.io_status` is for this type of job: jobs that are no block jobs have none.
block::v1::BlockDeviceIoStatus IoStatusOf(const job::JobSnapshot& snapshot);

// The text that QMP gives of a job's error: empty for OK.
std::string ErrorText(const absl::Status& error);
// Its place in the table of errors.
block::v1::ErrorReason ErrorReasonOf(const absl::Status& error);

job::ErrorPolicy FromProto(block::v1::BlockdevOnError policy);
job::SyncMode FromProto(block::v1::MirrorSyncMode sync);

// What all requests that begin a job say of it, but for its error policies.
template <typename Request>
job::JobOptions JobOptionsOf(const Request& request, job::JobType type) {
  job::JobOptions options;
  options.id = request.job_id();
  options.type = type;
  options.speed = request.speed();
  options.auto_finalize = !request.has_auto_finalize() || request.auto_finalize();
  options.auto_dismiss = !request.has_auto_dismiss() || request.auto_dismiss();
  return options;
}

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_JOB_CONVERT_H_
