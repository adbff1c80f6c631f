// An InstanceRegistry whose callers do not wait for a state folder that hangs.
//
// Registering and forgetting an instance is stored before it is told. When the store has not
// answered in time, all who wait are refused with UNAVAILABLE (kFileNotAnswering), and whoever
// comes while it is so at once. What was asked of the registry before that cannot be called back:
// it is done once the folder answers, so the refusal says that it may be (`outcome` is "unknown"),
// and to repeat the request, which does no harm. What was refused at once is never done
// ("not-sent").
#ifndef ENGINE_BACKEND_PATIENT_REGISTRY_H_
#define ENGINE_BACKEND_PATIENT_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/backend/instance_registry.h"
#include "engine/backend/watched_store.h"

namespace tidemark::backend {

class PatientRegistry final : public InstanceRegistry {
 public:
  // `registry` keeps its instances in `store`; both must outlive this, and `registry` be still when
  // it goes. `folder` is what the store is called in refusals.
  PatientRegistry(InstanceRegistry& registry, WatchedStore& store, std::string folder);
  ~PatientRegistry() override;

  // InstanceRegistry.
  void Create(const ::tidemark::block::v1::CreateInstanceRequest& request, Created done) override;
  void Delete(absl::string_view id, Deleted done) override;
  absl::StatusOr<::tidemark::block::v1::Instance> Get(absl::string_view id) const override;
  std::vector<::tidemark::block::v1::Instance> List() const override;

 private:
  class Waiting;

  InstanceRegistry& registry_;
  WatchedStore& store_;
  const std::string folder_;
  const std::shared_ptr<Waiting> waiting_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_PATIENT_REGISTRY_H_
