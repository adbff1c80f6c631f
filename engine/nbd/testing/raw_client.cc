#include "engine/nbd/testing/raw_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tidemark::nbd {

namespace {

std::string BigEndianText(uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}

uint64_t FromText(absl::string_view text) {
  uint64_t value = 0;
  for (const char c : text) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

}  // namespace

RawClient::RawClient(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM, 0)) {
  CHECK(fd_ >= 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(name.sun_path));
  memcpy(name.sun_path, path.data(), path.size());
  CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0);
}

RawClient::~RawClient() { close(fd_); }

bool RawClient::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

size_t RawClient::SendWithoutWaiting(absl::string_view bytes) {
  const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return count > 0 ? static_cast<size_t>(count) : 0;
}

absl::optional<std::string> RawClient::Receive(size_t count) {
  std::string bytes(count, '\0');
  for (size_t done = 0; done < count;) {
    const ssize_t step = recv(fd_, bytes.data() + done, count - done, 0);
    if (step <= 0) return absl::nullopt;
    done += static_cast<size_t>(step);
  }
  return bytes;
}

std::string RawClient::ReceiveToEnd() {
  std::string all;
  char bytes[4096];
  for (;;) {
    const ssize_t count = recv(fd_, bytes, sizeof(bytes), 0);
    if (count <= 0) return all;
    all.append(bytes, static_cast<size_t>(count));
  }
}

void RawClient::EndSending() { shutdown(fd_, SHUT_WR); }

bool RawClient::Greet(uint32_t client_flags) {
  const auto greeting = Receive(18);
  if (!greeting.has_value() || greeting->substr(0, 16) != "NBDMAGICIHAVEOPT") return false;
  return Send(U32(client_flags));
}

bool RawClient::ChooseExport(absl::string_view name) {
  if (!Send(Option(1, name))) return false;
  return Receive(10).has_value();  // Size and flags: this client always says NO_ZEROES.
}

absl::optional<RawClient::OptionReply> RawClient::ReceiveOptionReply() {
  const auto header = Receive(20);
  if (!header.has_value()) return absl::nullopt;
  CHECK(FromText(header->substr(0, 8)) == 0x3e889045565a9);
  OptionReply reply;
  reply.type = static_cast<uint32_t>(FromText(header->substr(12, 4)));
  const auto data = Receive(FromText(header->substr(16, 4)));
  if (!data.has_value()) return absl::nullopt;
  reply.data = *data;
  return reply;
}

absl::optional<RawClient::SimpleReply> RawClient::ReceiveSimpleReply() {
  const auto header = Receive(16);
  if (!header.has_value()) return absl::nullopt;
  CHECK(FromText(header->substr(0, 4)) == 0x67446698);
  return SimpleReply{static_cast<uint32_t>(FromText(header->substr(4, 4))),
                     FromText(header->substr(8, 8))};
}

std::string RawClient::U16(uint16_t value) { return BigEndianText(value, 2); }
std::string RawClient::U32(uint32_t value) { return BigEndianText(value, 4); }
std::string RawClient::U64(uint64_t value) { return BigEndianText(value, 8); }

std::string RawClient::Option(uint32_t option, absl::string_view data) {
  return absl::StrCat(OptionHeader(option, static_cast<uint32_t>(data.size())), data);
}

std::string RawClient::OptionHeader(uint32_t option, uint32_t length) {
  return absl::StrCat("IHAVEOPT", U32(option), U32(length));
}

std::string RawClient::Request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset,
                               uint32_t length) {
  return absl::StrCat(U32(0x25609513), U16(flags), U16(command), U64(cookie), U64(offset),
                      U32(length));
}

}  // namespace tidemark::nbd
