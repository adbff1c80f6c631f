// Which monitors beyond the file system clients may register: a service that connects wherever it
// is told to lends its place in the network to whoever tells it. Any thread; constant.
#ifndef ADAPTERS_QMP_ALLOWED_MONITORS_H_
#define ADAPTERS_QMP_ALLOWED_MONITORS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "adapters/qmp/monitor_address.h"

namespace tidemark::qmp {

class AllowedMonitors {
 public:
  // Allows every address.
  AllowedMonitors() = default;

  // Allows those of `texts`, so none if there are none. Each is "HOST:PORT" or "HOST", "[::1]:4444"
  // or "[::1]"; "vsock:CID:PORT" or "vsock:CID"; or "*" for all. INVALID_ARGUMENT names one that is
  // none of these.
  static absl::StatusOr<AllowedMonitors> Create(const std::vector<std::string>& texts);

  // PERMISSION_DENIED (kPathForbidden) names the address and what allows it. Unix sockets are not
  // judged here. Hosts are compared as they are written (numbers as numbers, names without regard
  // to case), and never looked up: what is allowed is also what is connected to.
  absl::Status Check(const MonitorAddress& address) const;

 private:
  struct Entry {
    // Exactly one of the two.
    std::string host;
    absl::optional<uint32_t> cid;
    // Absent: every port.
    absl::optional<uint32_t> port;
  };
  static absl::StatusOr<Entry> Read(const std::string& text);

  bool allows_everything_ = true;
  std::vector<Entry> entries_;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_ALLOWED_MONITORS_H_
