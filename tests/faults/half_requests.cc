#include "tests/faults/half_requests.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/endian.h"

namespace tidemark::test {
namespace {

constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kFrameHeaderBytes = 9;
constexpr size_t kFramePayloadBytesMax = 16'384;
constexpr int64_t kFirstWindowBytes = 65'535;

// Types and flags of frames, RFC 9113 section 6.
constexpr uint8_t kData = 0;
constexpr uint8_t kHeaders = 1;
constexpr uint8_t kReset = 3;
constexpr uint8_t kSettings = 4;
constexpr uint8_t kPing = 6;
constexpr uint8_t kWindowUpdate = 8;
constexpr uint8_t kAck = 1;
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kEndHeaders = 4;
constexpr uint16_t kInitialWindowSize = 4;

template <typename T>
std::string BigEndian(T value) {
  std::string bytes(sizeof value, '\0');
  StoreBigEndian(bytes.data(), value);
  return bytes;
}

// A header as HPACK's "literal without indexing, new name" (RFC 7541 section 6.2.2).
std::string Header(absl::string_view name, absl::string_view value) {
  CHECK(name.size() < 127 && value.size() < 127);
  return absl::StrCat(std::string(1, '\0'), std::string(1, static_cast<char>(name.size())), name,
                      std::string(1, static_cast<char>(value.size())), value);
}

}  // namespace

HalfRequests::HalfRequests(const std::string& socket_path, absl::string_view method, int count,
                           size_t request_bytes)
    : window_bytes_(kFirstWindowBytes), first_window_bytes_(kFirstWindowBytes) {
  socket_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(socket_ >= 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, socket_path.c_str(), sizeof name.sun_path - 1);
  CHECK(connect(socket_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  CHECK(send(socket_, kPreface.data(), kPreface.size(), MSG_NOSIGNAL) > 0);
  Send(kSettings, 0, 0, "");
  const std::string headers =
      absl::StrCat(Header(":method", "POST"), Header(":scheme", "http"), Header(":path", method),
                   Header(":authority", "test"), Header("te", "trailers"),
                   Header("content-type", "application/grpc"));
  // Before each message: that it is not compressed, and its length.
  const std::string prefix =
      absl::StrCat(std::string(1, '\0'), BigEndian(static_cast<uint32_t>(request_bytes)));
  for (int i = 0; i < count; ++i) {
    const uint32_t stream = 2 * i + 1;
    Send(kHeaders, kEndHeaders, stream, headers);
    Send(kData, 0, stream, prefix);
    window_bytes_ -= static_cast<int64_t>(prefix.size());
    streams_[stream] = {kFirstWindowBytes - static_cast<int64_t>(prefix.size()), request_bytes - 1};
  }
}

HalfRequests::~HalfRequests() { close(socket_); }

bool HalfRequests::Pump() {
  Read();
  bool left = false;
  for (auto& [number, stream] : streams_) {
    const int64_t bytes =
        std::min({static_cast<int64_t>(kFramePayloadBytesMax),
                  static_cast<int64_t>(stream.left_bytes), window_bytes_, stream.window_bytes});
    left = left || stream.left_bytes > 0;
    if (bytes <= 0) continue;
    Send(kData, 0, number, std::string(bytes, 'x'));
    if (lost_) return false;
    stream.left_bytes -= bytes;
    stream.window_bytes -= bytes;
    window_bytes_ -= bytes;
    sent_bytes_ += bytes;
  }
  return left;
}

void HalfRequests::Send(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload) {
  const std::string length = BigEndian(static_cast<uint32_t>(payload.size()));
  const std::string frame =
      absl::StrCat(length.substr(1), std::string(1, static_cast<char>(type)),
                   std::string(1, static_cast<char>(flags)), BigEndian(stream), payload);
  for (size_t sent = 0; !lost_ && sent < frame.size();) {
    const ssize_t count = send(socket_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (count > 0) sent += count;
    if (count < 0 && errno != EINTR) Lose();
  }
}

// What has come, up to now.
void HalfRequests::Read() {
  while (!lost_) {
    pollfd wanted = {socket_, POLLIN, 0};
    if (poll(&wanted, 1, 0) <= 0) break;
    char bytes[65'536];
    const ssize_t count = recv(socket_, bytes, sizeof bytes, 0);
    if (count <= 0) return Lose();
    unread_.append(bytes, count);
  }
  size_t begin = 0;
  while (unread_.size() - begin >= kFrameHeaderBytes) {
    const char* const header = unread_.data() + begin;
    const size_t length = LoadBigEndian<uint32_t>(header) >> 8;
    if (unread_.size() - begin < kFrameHeaderBytes + length) break;
    Obey(header[3], header[4], LoadBigEndian<uint32_t>(header + 5),
         absl::string_view(header + kFrameHeaderBytes, length));
    begin += kFrameHeaderBytes + length;
  }
  unread_.erase(0, begin);
}

void HalfRequests::Obey(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload) {
  const auto known = streams_.find(stream);
  if (type == kSettings && (flags & kAck) == 0) {
    ObeySettings(payload);
    Send(kSettings, kAck, 0, "");
  } else if (type == kPing && (flags & kAck) == 0) {
    Send(kPing, kAck, 0, payload);
  } else if (type == kWindowUpdate && payload.size() == sizeof(uint32_t)) {
    const uint32_t more_bytes = LoadBigEndian<uint32_t>(payload.data());
    if (stream == 0) window_bytes_ += more_bytes;
    if (known != streams_.end()) known->second.window_bytes += more_bytes;
  } else if (known != streams_.end() &&
             (type == kReset || (type == kHeaders && (flags & kEndStream) != 0))) {
    streams_.erase(known);
    ++ended_;
  }
}

void HalfRequests::ObeySettings(absl::string_view payload) {
  constexpr size_t kSettingBytes = 6;
  for (; payload.size() >= kSettingBytes; payload.remove_prefix(kSettingBytes)) {
    if (LoadBigEndian<uint16_t>(payload.data()) != kInitialWindowSize) continue;
    const int64_t bytes = LoadBigEndian<uint32_t>(payload.data() + 2);
    for (auto& [number, stream] : streams_) stream.window_bytes += bytes - first_window_bytes_;
    first_window_bytes_ = bytes;
  }
}

void HalfRequests::Lose() {
  lost_ = true;
  ended_ += static_cast<int>(streams_.size());
  streams_.clear();
}

}  // namespace tidemark::test
