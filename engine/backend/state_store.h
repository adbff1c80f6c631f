// What outlives the process beside the event log: the instances that clients registered, and the
// jobs and exports on virtual machines that have not ended in the books yet.
#ifndef ENGINE_BACKEND_STATE_STORE_H_
#define ENGINE_BACKEND_STATE_STORE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/instance.pb.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::backend {

// Any thread that may block; calls run one at a time. What a call has stored survives the end of
// the process at any moment after it returned; only a crash of the whole machine may lose the last
// seconds. Errors: FAILED_PRECONDITION (kIoError), RESOURCE_EXHAUSTED (kNoSpace); then nothing has
// changed.
class StateStore {
 public:
  virtual ~StateStore() = default;

  // By id.
  virtual absl::StatusOr<std::vector<::tidemark::block::v1::CreateInstanceRequest>>
  LoadInstances() = 0;
  // Adds or replaces.
  virtual absl::Status SaveInstance(
      const ::tidemark::block::v1::CreateInstanceRequest& instance) = 0;
  // Of instances that are not stored but have jobs or exports that are.
  virtual absl::StatusOr<std::vector<std::string>> LoadOtherInstanceIds() = 0;
  // Its jobs and exports too. What is not there is no error.
  virtual absl::Status DeleteInstance(absl::string_view id) = 0;

  // By id.
  virtual absl::StatusOr<std::vector<::tidemark::block::v1::Job>> LoadJobs(
      absl::string_view instance) = 0;
  // Adds or replaces the job with this `instance` and `id`. The instance need not be stored: those
  // of files and folders have jobs too.
  virtual absl::Status SaveJob(const ::tidemark::block::v1::Job& job) = 0;
  // What is not there is no error.
  virtual absl::Status DeleteJob(absl::string_view instance, absl::string_view id) = 0;

  // By id. The instance need not be stored for these either.
  virtual absl::StatusOr<std::vector<::tidemark::block::v1::BlockExportInfo>> LoadExports(
      absl::string_view instance) = 0;
  // Adds or replaces the export with this id.
  virtual absl::Status SaveExport(absl::string_view instance,
                                  const ::tidemark::block::v1::BlockExportInfo& info) = 0;
  // What is not there is no error.
  virtual absl::Status DeleteExport(absl::string_view instance, absl::string_view id) = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_STATE_STORE_H_
