// A StateStore that knows how long it has been asked: its folder may lie on a disk that hangs, and
// whoever waits for an answer is to be told so.
//
// Its calls are those of the store behind it, and may hang as these do. Any thread.
#ifndef ENGINE_BACKEND_WATCHED_STORE_H_
#define ENGINE_BACKEND_WATCHED_STORE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/backend/limits.h"
#include "engine/backend/state_store.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"

namespace tidemark::backend {

class WatchedStore final : public StateStore {
 public:
  // Runs when a call has not been answered for `age`.
  using Late = std::function<void(absl::Duration age)>;

  // All of these must outlive this. No `Late` runs once it is gone.
  WatchedStore(StateStore& store, Clock& clock, Executor& executor,
               absl::Duration time_max = kSaveTimeMax);
  ~WatchedStore() override;

  // Runs `late` on the executor whenever the oldest call is older than `time_max`, and again each
  // `time_max` while it stays so. All that were added are run, in their order.
  void OnLate(Late late);
  // Whether a call is older than that now, and how old; zero if none is.
  absl::Duration late_for() const;

  // StateStore.
  absl::StatusOr<std::vector<::tidemark::block::v1::CreateInstanceRequest>> LoadInstances()
      override;
  absl::Status SaveInstance(const ::tidemark::block::v1::CreateInstanceRequest& instance) override;
  absl::StatusOr<std::vector<std::string>> LoadOtherInstanceIds() override;
  absl::Status DeleteInstance(absl::string_view id) override;
  absl::StatusOr<std::vector<::tidemark::block::v1::Job>> LoadJobs(
      absl::string_view instance) override;
  absl::Status SaveJob(const ::tidemark::block::v1::Job& job) override;
  absl::Status DeleteJob(absl::string_view instance, absl::string_view id) override;
  absl::StatusOr<std::vector<::tidemark::block::v1::BlockExportInfo>> LoadExports(
      absl::string_view instance) override;
  absl::Status SaveExport(absl::string_view instance,
                          const ::tidemark::block::v1::BlockExportInfo& info) override;
  absl::Status DeleteExport(absl::string_view instance, absl::string_view id) override;

 private:
  class Watch;
  // Runs `call` under the watch.
  template <typename Call>
  auto Watched(Call call);

  StateStore& store_;
  const std::shared_ptr<Watch> watch_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_WATCHED_STORE_H_
