// Where the service listens: "unix:PATH" or "HOST:PORT".
#ifndef SERVICE_RPC_LISTEN_ADDRESS_H_
#define SERVICE_RPC_LISTEN_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

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

// Whether only this machine can reach it.
bool IsLoopback(absl::string_view numeric_address);

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

  // Moves it to its final path, readable and writable by the owner only.
  absl::Status Hatch();

 private:
  SocketNest(std::string folder, std::string final_path)
      : folder_(std::move(folder)), final_path_(std::move(final_path)) {}

  std::string folder_;  // Empty: nothing to remove.
  std::string final_path_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_LISTEN_ADDRESS_H_
