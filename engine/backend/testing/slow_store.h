// For tests: a store that holds nothing, and takes as long as it is told to.
#ifndef ENGINE_BACKEND_TESTING_SLOW_STORE_H_
#define ENGINE_BACKEND_TESTING_SLOW_STORE_H_

#include <functional>
#include <string>
#include <vector>

#include "engine/backend/state_store.h"

namespace tidemark::backend {

class SlowStore final : public StateStore {
 public:
  absl::StatusOr<std::vector<::tidemark::block::v1::CreateInstanceRequest>> LoadInstances()
      override {
    during();
    return std::vector<::tidemark::block::v1::CreateInstanceRequest>();
  }
  absl::Status SaveInstance(const ::tidemark::block::v1::CreateInstanceRequest&) override {
    during();
    return answer;
  }
  absl::StatusOr<std::vector<std::string>> LoadOtherInstanceIds() override {
    during();
    return std::vector<std::string>();
  }
  absl::Status DeleteInstance(absl::string_view) override {
    during();
    return answer;
  }
  absl::StatusOr<std::vector<::tidemark::block::v1::Job>> LoadJobs(absl::string_view) override {
    during();
    return std::vector<::tidemark::block::v1::Job>();
  }
  absl::Status SaveJob(const ::tidemark::block::v1::Job&) override {
    during();
    return answer;
  }
  absl::Status DeleteJob(absl::string_view, absl::string_view) override {
    during();
    return answer;
  }
  absl::StatusOr<std::vector<::tidemark::block::v1::BlockExportInfo>> LoadExports(
      absl::string_view) override {
    during();
    return std::vector<::tidemark::block::v1::BlockExportInfo>();
  }
  absl::Status SaveExport(absl::string_view,
                          const ::tidemark::block::v1::BlockExportInfo&) override {
    during();
    return answer;
  }
  absl::Status DeleteExport(absl::string_view, absl::string_view) override {
    during();
    return answer;
  }

  // What happens while a call is under way.
  std::function<void()> during = [] {};
  // What every change is answered.
  absl::Status answer;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_TESTING_SLOW_STORE_H_
