#include "engine/backend/patient_registry.h"

#include <functional>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

// `attempted` as "Cannot register instance 'a'".
absl::Status NotAnswering(absl::string_view attempted, const std::string& id,
                          const std::string& folder, absl::Duration age, bool is_begun) {
  return Error(
      Reason::kFileNotAnswering,
      absl::StrCat(attempted, ": the state folder '", folder, "' has not answered for ",
                   absl::FormatDuration(age), ", so its disk seems to hang; ",
                   is_begun ? "it may still be done once the folder answers; repeat it then"
                            : "nothing was done"),
      {{"instance", id}, {"file", folder}, {"outcome", is_begun ? "unknown" : "not-sent"}});
}

}  // namespace

// Who waits for an answer. The first answer counts: the registry's or the refusal.
class PatientRegistry::Waiting {
 public:
  using Refuse = std::function<void(absl::Duration age)>;

  uint64_t Add(Refuse refuse) {
    MutexLock lock(&mutex_);
    refusals_.emplace(next_, std::move(refuse));
    return next_++;
  }
  // Whether this one has not been refused; from now on it is not.
  bool Take(uint64_t number) {
    Refuse refuse;  // Destroyed after the lock is let go.
    MutexLock lock(&mutex_);
    const auto found = refusals_.find(number);
    if (found == refusals_.end()) return false;
    refuse = std::move(found->second);
    refusals_.erase(found);
    return true;
  }
  void RefuseAll(absl::Duration age) {
    std::map<uint64_t, Refuse> refusals;
    {
      MutexLock lock(&mutex_);
      refusals.swap(refusals_);
    }
    for (const auto& [number, refuse] : refusals) refuse(age);
  }

 private:
  Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Refuse> refusals_ ABSL_GUARDED_BY(mutex_);
};

PatientRegistry::PatientRegistry(InstanceRegistry& registry, WatchedStore& store,
                                 std::string folder)
    : registry_(registry),
      store_(store),
      folder_(std::move(folder)),
      waiting_(std::make_shared<Waiting>()) {
  store_.OnLate([waiting = waiting_](absl::Duration age) { waiting->RefuseAll(age); });
}

PatientRegistry::~PatientRegistry() = default;

void PatientRegistry::Create(const v1::CreateInstanceRequest& request, Created done) {
  const std::string attempted = absl::StrCat("Cannot register instance '", request.id(), "'");
  if (const absl::Duration age = store_.late_for(); age > absl::ZeroDuration()) {
    return done(NotAnswering(attempted, request.id(), folder_, age, /*is_begun=*/false));
  }
  const uint64_t number =
      waiting_->Add([done, attempted, id = request.id(), folder = folder_](absl::Duration age) {
        done(NotAnswering(attempted, id, folder, age, /*is_begun=*/true));
      });
  registry_.Create(request,
                   [waiting = waiting_, number, done](absl::StatusOr<v1::Instance> instance) {
                     if (waiting->Take(number)) done(std::move(instance));
                   });
}

void PatientRegistry::Delete(absl::string_view id, Deleted done) {
  const std::string attempted = absl::StrCat("Cannot forget instance '", id, "'");
  if (const absl::Duration age = store_.late_for(); age > absl::ZeroDuration()) {
    return done(NotAnswering(attempted, std::string(id), folder_, age, /*is_begun=*/false));
  }
  const uint64_t number =
      waiting_->Add([done, attempted, id = std::string(id), folder = folder_](absl::Duration age) {
        done(NotAnswering(attempted, id, folder, age, /*is_begun=*/true));
      });
  registry_.Delete(id, [waiting = waiting_, number, done](absl::Status status) {
    if (waiting->Take(number)) done(std::move(status));
  });
}

absl::StatusOr<v1::Instance> PatientRegistry::Get(absl::string_view id) const {
  return registry_.Get(id);
}

std::vector<v1::Instance> PatientRegistry::List() const { return registry_.List(); }

}  // namespace tidemark::backend
