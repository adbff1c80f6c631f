#include "tests/faults/http2.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tidemark::test::http2 {
namespace {

std::string Byte(size_t value) { return std::string(1, static_cast<char>(value)); }

// A header as HPACK's "literal without indexing, new name" (RFC 7541 section 6.2.2).
std::string Header(absl::string_view name, absl::string_view value) {
  CHECK(name.size() < 127 && value.size() < 127);
  return absl::StrCat(Byte(0), Byte(name.size()), name, Byte(value.size()), value);
}

}  // namespace

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload) {
  const std::string length = BigEndian(static_cast<uint32_t>(payload.size()));
  return absl::StrCat(length.substr(1), Byte(type), Byte(flags), BigEndian(stream), payload);
}

std::string RequestHeaders(uint32_t stream, absl::string_view method) {
  return Frame(kHeaders, kEndHeaders, stream,
               absl::StrCat(Header(":method", "POST"), Header(":scheme", "http"),
                            Header(":path", method), Header(":authority", "test"),
                            Header("te", "trailers"), Header("content-type", "application/grpc")));
}

std::string MessagePrefix(size_t message_bytes) {
  return absl::StrCat(Byte(0), BigEndian(static_cast<uint32_t>(message_bytes)));
}

int Connect(const std::string& socket_path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(descriptor >= 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, socket_path.c_str(), sizeof name.sun_path - 1);
  CHECK(connect(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  return descriptor;
}

bool SendAll(int socket, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0) bytes.remove_prefix(count);
    if (count < 0 && errno != EINTR) return false;
  }
  return true;
}

}  // namespace tidemark::test::http2
