// One timer at a time looks at the calls, for as long as there is one: most are over long before it
// comes, so a call costs no timer of its own.
#include "engine/backend/watched_store.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {

namespace v1 = ::tidemark::block::v1;

class WatchedStore::Watch : public std::enable_shared_from_this<Watch> {
 public:
  Watch(Clock& clock, Executor& executor, absl::Duration time_max)
      : clock_(clock), executor_(executor), time_max_(time_max) {}

  absl::Duration Begin() {
    MutexLock lock(&mutex_);
    const absl::Duration now = clock_.Elapsed();
    began_.insert(now);
    LookAfter(time_max_);
    return now;
  }
  void End(absl::Duration began) {
    MutexLock lock(&mutex_);
    began_.erase(began_.find(began));
  }
  void Add(Late late) {
    MutexLock lock(&mutex_);
    late_.push_back(std::move(late));
  }
  // Nobody hears of anything any more.
  void Stop() {
    MutexLock lock(&mutex_);
    late_.clear();
    while (is_telling_) told_.Wait(&mutex_);
  }
  absl::Duration late_for() const {
    MutexLock lock(&mutex_);
    const absl::Duration age = Age();
    return age < time_max_ ? absl::ZeroDuration() : age;
  }

 private:
  absl::Duration Age() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return began_.empty() ? absl::ZeroDuration() : clock_.Elapsed() - *began_.begin();
  }
  void LookAfter(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (std::exchange(is_looking_, true)) return;
    executor_.PostAfter(delay, [weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->Look();
    });
  }
  void Look() {
    absl::Duration age;
    std::vector<Late> late;
    {
      MutexLock lock(&mutex_);
      age = Age();
      if (age < time_max_) {
        is_looking_ = false;
        if (!began_.empty()) LookAfter(time_max_ - age);
        return;
      }
      late = late_;
      is_telling_ = true;
    }
    for (const Late& tell : late) tell(age);
    MutexLock lock(&mutex_);
    is_looking_ = is_telling_ = false;
    told_.SignalAll();
    if (!began_.empty()) LookAfter(time_max_);
  }

  Clock& clock_;
  Executor& executor_;
  const absl::Duration time_max_;

  mutable Mutex mutex_;
  // When each call that runs began.
  std::multiset<absl::Duration> began_ ABSL_GUARDED_BY(mutex_);
  bool is_looking_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_telling_ ABSL_GUARDED_BY(mutex_) = false;
  CondVar told_;
  std::vector<Late> late_ ABSL_GUARDED_BY(mutex_);
};

WatchedStore::WatchedStore(StateStore& store, Clock& clock, Executor& executor,
                           absl::Duration time_max)
    : store_(store), watch_(std::make_shared<Watch>(clock, executor, time_max)) {}

WatchedStore::~WatchedStore() { watch_->Stop(); }

void WatchedStore::OnLate(Late late) { watch_->Add(std::move(late)); }

absl::Duration WatchedStore::late_for() const { return watch_->late_for(); }

template <typename Call>
auto WatchedStore::Watched(Call call) {
  const absl::Duration began = watch_->Begin();
  const auto end = absl::MakeCleanup([this, began] { watch_->End(began); });
  return call();
}

absl::StatusOr<std::vector<v1::CreateInstanceRequest>> WatchedStore::LoadInstances() {
  return Watched([&] { return store_.LoadInstances(); });
}
absl::Status WatchedStore::SaveInstance(const v1::CreateInstanceRequest& instance) {
  return Watched([&] { return store_.SaveInstance(instance); });
}
absl::StatusOr<std::vector<std::string>> WatchedStore::LoadOtherInstanceIds() {
  return Watched([&] { return store_.LoadOtherInstanceIds(); });
}
absl::Status WatchedStore::DeleteInstance(absl::string_view id) {
  return Watched([&] { return store_.DeleteInstance(id); });
}
absl::StatusOr<std::vector<v1::Job>> WatchedStore::LoadJobs(absl::string_view instance) {
  return Watched([&] { return store_.LoadJobs(instance); });
}
absl::Status WatchedStore::SaveJob(const v1::Job& job) {
  return Watched([&] { return store_.SaveJob(job); });
}
absl::Status WatchedStore::DeleteJob(absl::string_view instance, absl::string_view id) {
  return Watched([&] { return store_.DeleteJob(instance, id); });
}
absl::StatusOr<std::vector<v1::BlockExportInfo>> WatchedStore::LoadExports(
    absl::string_view instance) {
  return Watched([&] { return store_.LoadExports(instance); });
}
absl::Status WatchedStore::SaveExport(absl::string_view instance, const v1::BlockExportInfo& info) {
  return Watched([&] { return store_.SaveExport(instance, info); });
}
absl::Status WatchedStore::DeleteExport(absl::string_view instance, absl::string_view id) {
  return Watched([&] { return store_.DeleteExport(instance, id); });
}

}  // namespace tidemark::backend
