// The registry of virtual machines: what InstanceService offers, without gRPC. How each of them is
// doing is told by INSTANCE_STATE_CHANGE in the event log.
#ifndef ENGINE_BACKEND_INSTANCE_REGISTRY_H_
#define ENGINE_BACKEND_INSTANCE_REGISTRY_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::backend {

// Any thread; no call blocks.
class InstanceRegistry {
 public:
  using Created = std::function<void(absl::StatusOr<::tidemark::block::v1::Instance>)>;
  using Deleted = std::function<void(absl::Status)>;
  virtual ~InstanceRegistry() = default;

  // As CreateInstance says. `request` is valid by its options. `done` runs exactly once, on any
  // thread, when the instance is registered and, if it can be, stored.
  virtual void Create(const ::tidemark::block::v1::CreateInstanceRequest& request,
                      Created done) = 0;

  // As DeleteInstance says. `done` as above.
  virtual void Delete(absl::string_view id, Deleted done) = 0;

  // As it is now. NOT_FOUND (kInstanceNotFound).
  virtual absl::StatusOr<::tidemark::block::v1::Instance> Get(absl::string_view id) const = 0;

  // All as they are now, by id. An event after the log's position from before the call tells of
  // each change that the answer does not show.
  virtual std::vector<::tidemark::block::v1::Instance> List() const = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_INSTANCE_REGISTRY_H_
