#include "engine/base/lookup_pool.h"

#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/elastic_pool.h"
#include "engine/base/error.h"
#include "engine/base/file_places.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "engine/base/task_shares.h"

namespace tidemark {
namespace {

// How long a thread that has nothing to do stays.
constexpr absl::Duration kThreadIdle = absl::Seconds(10);

absl::Status NotAnswering(const std::string& name, absl::string_view why) {
  return Error(Reason::kFileNotAnswering, absl::StrCat("Cannot look up '", name, "': ", why),
               {{"file", name}});
}

absl::Status Stopping(const std::string& name) {
  return Error(Reason::kShuttingDown,
               absl::StrCat("Cannot look up '", name, "': the service is stopping"),
               {{"file", name}});
}

}  // namespace

// Its tasks hold it by a plain pointer: it goes only when none of them is left.
class LookupPool::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(Executor& answers, std::vector<std::string> roots, Limits limits)
      : answers_(answers),
        limits_(limits),
        places_(std::move(roots)),
        shares_(limits.running_max, limits.share_max,
                [this](Task task) { threads_.Post(std::move(task)); }) {}

  std::string PlaceOf(absl::string_view path) {
    MutexLock lock(&mutex_);
    return places_.PlaceOf(path);
  }
  void Start(const std::string& place, absl::string_view name, Look look, Done done,
             absl::Duration time_max);
  void Stop();
  int running_count() const { return shares_.running_count(); }
  absl::Duration look_max() const { return limits_.look_max; }

 private:
  struct Call {
    std::string name;
    Done done;
  };
  struct Place {
    std::unique_ptr<Executor> share;
    size_t count = 0;  // Of look-ups that run or wait.
  };

  // The first answer counts.
  void Answer(const std::shared_ptr<Call>& call, absl::Status status);
  bool IsWaitedFor(const std::shared_ptr<Call>& call) {
    MutexLock lock(&mutex_);
    return calls_.count(call) != 0;
  }
  void Leave(const std::string& place);

  // Constant after construction.
  Executor& answers_;  // Gone, perhaps, once all are told after Stop.
  const Limits limits_;

  Mutex mutex_;
  FilePlaces places_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Place> shares_of_ ABSL_GUARDED_BY(mutex_);
  // Those that have not been answered.
  std::set<std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // Answers that `answers_` has not told yet.
  size_t telling_count_ ABSL_GUARDED_BY(mutex_) = 0;
  CondVar told_;

  // Synchronise themselves. The threads go first.
  TaskShares shares_;
  ElasticPool threads_{"td-lookup", kThreadIdle};
};

void LookupPool::Core::Answer(const std::shared_ptr<Call>& call, absl::Status status) {
  // With the lock held: Stop, behind which `answers_` may go, knows of this one.
  MutexLock lock(&mutex_);
  if (calls_.erase(call) == 0) return;
  ++telling_count_;
  answers_.Post([self = shared_from_this(), done = std::move(call->done),
                 status = std::move(status)]() mutable {
    done(std::move(status));
    done = nullptr;
    MutexLock lock(&self->mutex_);
    --self->telling_count_;
    self->told_.SignalAll();
  });
}

void LookupPool::Core::Leave(const std::string& place) {
  MutexLock lock(&mutex_);
  const auto found = shares_of_.find(place);
  if (--found->second.count == 0) shares_of_.erase(found);
}

void LookupPool::Core::Start(const std::string& place, absl::string_view name, Look look, Done done,
                             absl::Duration time_max) {
  const auto call = std::make_shared<Call>(Call{std::string(name), std::move(done)});
  bool is_stopped = false;
  bool is_full = false;
  {
    MutexLock lock(&mutex_);
    is_stopped = stopped_;
    calls_.insert(call);
    if (!is_stopped) {
      Place& owner = shares_of_[place];
      is_full = owner.count >= limits_.place_max;
      if (!is_full && owner.count++ == 0) owner.share = shares_.MakeOwner();
      if (!is_full) {
        owner.share->Post([this, call, place, look = std::move(look)]() mutable {
          if (IsWaitedFor(call)) Answer(call, look());
          look = nullptr;
          Leave(place);
        });
      }
    }
  }
  if (is_stopped) return Answer(call, Stopping(call->name));
  if (is_full) {
    return Answer(call, NotAnswering(call->name, absl::StrCat("its disk does not answer, and ",
                                                              limits_.place_max,
                                                              " look-ups wait for it already")));
  }
  if (time_max == absl::InfiniteDuration()) return;
  answers_.PostAfter(
      time_max, [weak = weak_from_this(), late = std::weak_ptr<Call>(call), time_max] {
        const auto self = weak.lock();
        const auto call = late.lock();
        if (self == nullptr || call == nullptr) return;
        self->Answer(call, NotAnswering(call->name, absl::StrCat("it has not been answered within ",
                                                                 absl::FormatDuration(time_max),
                                                                 ", so its disk seems to hang")));
      });
}

void LookupPool::Core::Stop() {
  std::set<std::shared_ptr<Call>> calls;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    calls = calls_;
  }
  for (const auto& call : calls) Answer(call, Stopping(call->name));
  MutexLock lock(&mutex_);
  while (telling_count_ > 0) told_.Wait(&mutex_);
}

LookupPool::LookupPool(Executor& answers, std::vector<std::string> roots)
    : LookupPool(answers, std::move(roots), Limits()) {}

LookupPool::LookupPool(Executor& answers, std::vector<std::string> roots, Limits limits)
    : core_(std::make_shared<Core>(answers, std::move(roots), limits)) {}

LookupPool::~LookupPool() {
  core_->Stop();
  if (core_->running_count() == 0) return;
  static std::vector<std::shared_ptr<Core>>* const left_behind =
      new std::vector<std::shared_ptr<Core>>;
  left_behind->push_back(std::move(core_));
}

void LookupPool::LookAtFile(absl::string_view path, Look look, Done done, absl::Duration time_max) {
  core_->Start(core_->PlaceOf(path), path, std::move(look), std::move(done), time_max);
}

void LookupPool::LookAtFile(absl::string_view path, Look look, Done done) {
  LookAtFile(path, std::move(look), std::move(done), look_max());
}

absl::Status LookupPool::LookAndWait(absl::string_view path, Look look) {
  absl::Status answer;
  Notification told;
  LookAtFile(path, std::move(look), [&](absl::Status status) {
    answer = std::move(status);
    told.Notify();
  });
  told.Wait();
  return answer;
}

void LookupPool::LookAtHost(absl::string_view host, Look look, Done done, absl::Duration time_max) {
  // No place of a file begins so.
  core_->Start(absl::StrCat("host ", host), host, std::move(look), std::move(done), time_max);
}

void LookupPool::Stop() { core_->Stop(); }

absl::Duration LookupPool::look_max() const { return core_->look_max(); }

int LookupPool::running_count() const { return core_->running_count(); }

}  // namespace tidemark
