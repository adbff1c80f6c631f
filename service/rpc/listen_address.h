// Where the service listens: "unix:PATH" or "HOST:PORT"; and what guards each kind.
#ifndef SERVICE_RPC_LISTEN_ADDRESS_H_
#define SERVICE_RPC_LISTEN_ADDRESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace tidemark::rpc {

struct ListenAddress {
  std::string text;  // As given.
  // Either a path ...
  std::string socket_path;
  // ... or host and port: "localhost" and "50051".
  std::string host;
  std::string port;

  bool is_unix() const { return !socket_path.empty(); }
};

// INVALID_ARGUMENT for what is neither. An IPv6 address is written in brackets: "[::1]:50051".
absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text);

// The host's numeric addresses with the port, as gRPC takes them: "127.0.0.1:50051", "[::1]:50051".
// Blocks: the name may have to be looked up.
absl::StatusOr<std::vector<std::string>> ResolveTcp(const ListenAddress& address);

// Whether those who connect must say who they are: the kernel does for clients of a unix socket;
// those of TCP, also on the same machine, need TLS (`has_tls`) with a certificate or a token
// (`asks_clients`). INVALID_ARGUMENT names the address and the remedies.
absl::Status CheckGuarded(const ListenAddress& address, bool has_tls, bool asks_clients);

// Who may connect to a unix socket.
struct SocketAccess {
  mode_t mode = 0600;
  // Of the socket; absent: the group of the process.
  absl::optional<gid_t> group;
};

// Octal, as chmod takes it: "660". INVALID_ARGUMENT.
absl::StatusOr<mode_t> ParseMode(absl::string_view text);

// A group by name or number. INVALID_ARGUMENT: there is none of that name. May block.
absl::StatusOr<gid_t> FindGroup(const std::string& text);

// OK if a socket may be made at `path`: nothing is there, or a socket that nobody answers on, left
// by a daemon that was killed. FAILED_PRECONDITION if a daemon answers or something else is there.
absl::Status CheckSocketFree(const std::string& path);

// A folder in which a socket is made before it is moved to its path, so that it appears there at
// once, with its mode, and in place of a stale one.
class SocketNest {
 public:
  static absl::StatusOr<SocketNest> Create(const std::string& final_path);
  ~SocketNest();
  SocketNest(SocketNest&& other) noexcept;
  SocketNest& operator=(SocketNest&&) = delete;

  // Where to make the socket.
  std::string path() const { return folder_ + "/s"; }

  // Gives it to those who may connect and moves it to its final path.
  absl::Status Hatch(const SocketAccess& access);

 private:
  SocketNest(std::string folder, std::string final_path)
      : folder_(std::move(folder)), final_path_(std::move(final_path)) {}

  std::string folder_;  // Empty: nothing to remove.
  std::string final_path_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_LISTEN_ADDRESS_H_
