// All virtual machines that are registered, each connected by itself: by clients, from a file, and
// from folders whose sockets are monitors.
//
// A folder's sockets are instances under their file names, without ".sock", ".socket", ".qmp" and
// ".monitor" at the end. One whose socket vanishes and whose connection has ended is gone; a socket
// left behind by a killed QEMU stays, unreachable.
//
// Any thread; no call blocks, but for those that say so. The table is kept on `books`, one task
// after the other, so nothing races; the store may make these wait, but never a name: sockets and
// folders are looked up elsewhere, since a disk may hang for ever.
#ifndef ADAPTERS_QMP_INSTANCES_H_
#define ADAPTERS_QMP_INSTANCES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "adapters/qmp/allowed_monitors.h"
#include "adapters/qmp/connection.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/qmp_backend.h"
#include "engine/backend/backend.h"
#include "engine/backend/instance_registry.h"
#include "engine/base/executor.h"
#include "engine/base/path_policy.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::qmp {

struct InstancesOptions {
  // Where the sockets may be that clients name.
  PathPolicy sockets;
  // And where else their monitors may listen.
  AllowedMonitors monitors;
  // Whose sockets are monitors. They must exist.
  std::vector<std::string> folders;
  // Those of the file of instances.
  std::vector<::tidemark::block::v1::CreateInstanceRequest> of_file;
  ConnectionLimits limits;
  size_t instances_max = kInstancesMax;
  // From 0 to 1; any thread.
  std::function<double()> random;
  // What an operator should read. Any thread.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

class Instances final : public backend::InstanceRegistry {
 public:
  // `books` runs one task at a time and may block. It and all of `context` must outlive this and
  // what it has posted.
  Instances(InstancesOptions options, BridgeContext context, Executor& books);
  // Shutdown comes first.
  ~Instances() override;

  // Registers what was stored, what is in the file and what is in the folders, and begins to
  // connect. Blocks, for `folders` and the store; once. Refused: a folder that cannot be watched, a
  // store that cannot be read.
  absl::Status Start();

  // Ends every connection; nothing is forgotten. From now on nothing can be registered. Blocks, but
  // not longer than `patience`: false, if the store has not answered by then. May be called again;
  // until it has returned true, this must stay.
  bool Shutdown(absl::Duration patience = kShutdownPatience);

  // Null if no instance has this name.
  std::shared_ptr<backend::Backend> Find(absl::string_view id) const;
  // Sorted.
  std::vector<std::string> Names() const;

  // InstanceRegistry.
  void Create(const ::tidemark::block::v1::CreateInstanceRequest& request, Created done) override;
  void Delete(absl::string_view id, Deleted done) override;
  absl::StatusOr<::tidemark::block::v1::Instance> Get(absl::string_view id) const override;
  std::vector<::tidemark::block::v1::Instance> List() const override;

 private:
  class Core;
  const std::shared_ptr<Core> core_;
};

// The instances of a file: {"instances": [{"id": "vm1", "address": {"type": "unix", "path":
// ...}}]}, each as CreateInstance takes it. Blocks. Errors name the file and the place in it.
absl::StatusOr<std::vector<::tidemark::block::v1::CreateInstanceRequest>> ReadInstancesFile(
    const std::string& path);

// The instance that a socket in a folder is. INVALID_ARGUMENT: its name is not fit for one.
absl::StatusOr<::tidemark::block::v1::CreateInstanceRequest> InstanceOfSocket(
    absl::string_view folder, absl::string_view name);

// Where an instance's monitor listens. INVALID_ARGUMENT (kInvalidField).
absl::StatusOr<MonitorAddress> AddressOf(
    const ::tidemark::block::v1::CreateInstanceRequest& request);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_INSTANCES_H_
