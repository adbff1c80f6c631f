// For tests: a registry that only remembers, and tells the log of what it was told.
#ifndef ENGINE_BACKEND_TESTING_FAKE_REGISTRY_H_
#define ENGINE_BACKEND_TESTING_FAKE_REGISTRY_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/event_log.h"
#include "engine/backend/instance_registry.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {

class FakeRegistry final : public InstanceRegistry {
 public:
  explicit FakeRegistry(EventLog& log) : log_(log) {}

  void Create(const ::tidemark::block::v1::CreateInstanceRequest& request, Created done) override {
    ::tidemark::block::v1::Instance instance;
    instance.set_id(request.id());
    *instance.mutable_address() = request.address();
    Set(instance, ::tidemark::block::v1::INSTANCE_STATE_CONNECTING);
    done(Get(request.id()));
  }
  void Delete(absl::string_view id, Deleted done) override {
    const auto found = Get(id);
    if (!found.ok()) return done(found.status());
    Set(*found, ::tidemark::block::v1::INSTANCE_STATE_DELETED);
    {
      MutexLock lock(&mutex_);
      instances_.erase(std::string(id));
    }
    done(absl::OkStatus());
  }
  absl::StatusOr<::tidemark::block::v1::Instance> Get(absl::string_view id) const override {
    MutexLock lock(&mutex_);
    const auto found = instances_.find(std::string(id));
    if (found != instances_.end()) return found->second;
    return Error(Reason::kInstanceNotFound, absl::StrCat("No instance '", id, "'"));
  }
  std::vector<::tidemark::block::v1::Instance> List() const override {
    MutexLock lock(&mutex_);
    std::vector<::tidemark::block::v1::Instance> list;
    for (const auto& [id, instance] : instances_) list.push_back(instance);
    return list;
  }

  // Moves an instance to a state, and tells so.
  void Set(::tidemark::block::v1::Instance instance, ::tidemark::block::v1::InstanceState state) {
    instance.set_state(state);
    {
      MutexLock lock(&mutex_);
      instances_[instance.id()] = instance;
    }
    Event event;
    *event.mutable_instance_state_change()->mutable_instance() = instance;
    log_.Append(instance.id(), std::move(event));
  }

 private:
  EventLog& log_;
  mutable Mutex mutex_;
  std::map<std::string, ::tidemark::block::v1::Instance> instances_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_TESTING_FAKE_REGISTRY_H_
