// Where a QMP monitor listens, and the first step towards it.
#ifndef ADAPTERS_QMP_MONITOR_ADDRESS_H_
#define ADAPTERS_QMP_MONITOR_ADDRESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/variant.h"

namespace tidemark::qmp {

// A socket in the file system: an absolute path, short enough for the kernel (107 bytes).
struct UnixAddress {
  std::string path;
  bool operator==(const UnixAddress&) const = default;
};

// A name or number of a host (IPv6 numbers without brackets), and a port.
struct TcpAddress {
  std::string host;
  uint16_t port = 0;
  bool operator==(const TcpAddress&) const = default;
};

// A virtual machine by its context id, or 2 for the host.
struct VsockAddress {
  uint32_t cid = 0;
  uint32_t port = 0;
  bool operator==(const VsockAddress&) const = default;
};

// A plain value.
class MonitorAddress {
 public:
  // "unix:/path", "tcp:host:port" ("tcp:[::1]:4444") or "vsock:cid:port". INVALID_ARGUMENT
  // (kInvalidField) says what is wrong with it.
  static absl::StatusOr<MonitorAddress> Parse(absl::string_view text);

  // What Parse reads, in one fixed spelling: equal addresses have equal texts.
  std::string ToString() const;

  const absl::variant<UnixAddress, TcpAddress, VsockAddress>& value() const { return value_; }
  bool operator==(const MonitorAddress&) const = default;

 private:
  absl::variant<UnixAddress, TcpAddress, VsockAddress> value_;
};

// An address as the kernel takes it.
struct SocketAddress {
  int family = 0;
  // The bytes of a sockaddr_un, sockaddr_in, sockaddr_in6 or sockaddr_vm.
  std::string bytes;
};

// Whether the address must be looked up by name, which may take long: not for the I/O thread then.
bool NeedsLookup(const MonitorAddress& address);

// What to connect to, in the order to try; never empty. Blocks if NeedsLookup. UNAVAILABLE
// (kInstanceUnreachable, cause "absent") if the name is not known.
absl::StatusOr<std::vector<SocketAddress>> Lookup(const MonitorAddress& address);

// A connect that has begun.
struct Connecting {
  // Non-blocking and close-on-exec; the caller's.
  int fd = -1;
  // Whether it is connected. If not: writable tells when, and FinishConnect whether.
  bool done = false;
};

// Never blocks. UNAVAILABLE (kInstanceUnreachable); `address` is for the message. Its metadata
// "cause" is "absent" (no such socket), "refused" (nobody listens there), "forbidden" (permission),
// "busy" (too many wait to be accepted: somebody else may hold the monitor) or "unreachable".
absl::StatusOr<Connecting> StartConnect(const SocketAddress& target, const MonitorAddress& address);

// How a connect that took its time ended, once the socket is writable or in error. OK or as above.
absl::Status FinishConnect(int fd, const MonitorAddress& address);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_MONITOR_ADDRESS_H_
