// An NBD client that says anything. The first byte chooses how far it is well-mannered: not at all,
// up to its chosen export, or up to structured replies with two contexts; the rest is what it
// sends.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>

#include "absl/strings/string_view.h"
#include "engine/base/budget.h"
#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/nbd/budgets.h"
#include "engine/nbd/connection.h"
#include "engine/nbd/protocol.h"
#include "engine/storage/memory_storage.h"
#include "tests/fuzz/fuzz_target.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kDiskBytes = 1 << 20;

template <typename T>
std::string Number(T value) {
  std::string bytes(sizeof(T), '\0');
  StoreBigEndian(bytes.data(), value);
  return bytes;
}

std::string Text(absl::string_view text) {
  return Number(static_cast<uint32_t>(text.size())) + std::string(text);
}

std::string OptionBytes(Option option, const std::string& data) {
  return Number(kOptionMagic) + Number(static_cast<uint32_t>(option)) + Text(data);
}

// What a client with manners says before the bytes that are made up.
std::string Manners(uint8_t choice) {
  const std::string flags = Number(uint32_t{kFlagFixedNewstyle | kFlagNoZeroes});
  const std::string go = OptionBytes(Option::kGo, Text("disk") + Number(uint16_t{0}));
  switch (choice % 3) {
    case 0:
      return "";
    case 1:
      return flags + go;
    default:
      return flags + OptionBytes(Option::kStructuredReply, "") +
             OptionBytes(Option::kSetMetaContext, Text("disk") + Number(uint32_t{2}) +
                                                      Text("base:allocation") +
                                                      Text("qemu:dirty-bitmap:b")) +
             go;
  }
}

// Sends everything, takes whatever comes, and leaves once the server has hung up.
void Talk(int fd, const std::string& bytes) {
  size_t sent_bytes = 0;
  bool sending = true;
  for (;;) {
    pollfd wait{fd, static_cast<int16_t>(sending ? POLLIN | POLLOUT : POLLIN), 0};
    poll(&wait, 1, -1);
    if (sending && (wait.revents & POLLOUT) != 0) {
      const ssize_t sent = send(fd, bytes.data() + sent_bytes, bytes.size() - sent_bytes,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) sent_bytes += sent;
      if (sent < 0 || sent_bytes == bytes.size()) {
        sending = false;
        shutdown(fd, SHUT_WR);
      }
    }
    if ((wait.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
      char taken[65536];
      if (recv(fd, taken, sizeof(taken), 0) <= 0) break;
    }
  }
  close(fd);
}

// What outlives one client.
struct Server {
  Server() {
    const auto bitmap = std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536);
    bitmap->Set({65536, 200'000});
    CHECK(exports
              .Add({.name = "disk",
                    .storage = std::make_shared<storage::MemoryStorage>(kDiskBytes),
                    .writable = true,
                    .bitmaps = {{"b", bitmap}},
                    .allocation_depth = true})
              .ok());
  }
  ~Server() { exports.Close(); }

  ExportTable exports;
  StallWatch stall_watch;
  Budget memory{kServerBytesMax};
  Budget helpers{kServerHelpersMax};
  std::shared_ptr<MemoryPool> pool = MemoryPool::Make();
};

}  // namespace
}  // namespace tidemark::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using namespace tidemark::nbd;
  if (size_bytes == 0) return 0;
  static Server* const server = new Server();
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  std::thread client(
      Talk, fds[1],
      Manners(data[0]) + std::string(reinterpret_cast<const char*>(data) + 1, size_bytes - 1));
  Connection(fds[0], server->exports, server->stall_watch, server->pool,
             {&server->memory, &server->helpers}, {})
      .Serve();
  client.join();
  CHECK(server->exports.client_count("disk") == 0);
  return 0;
}
