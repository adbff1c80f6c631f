#include "tests/faults/half_requests.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "tests/faults/http2.h"

namespace tidemark::test {

using http2::Frame;
using http2::kFirstWindowBytes;
using http2::kFrameHeaderBytes;
using http2::kFramePayloadBytesMax;

HalfRequests::HalfRequests(const std::string& socket_path, absl::string_view method, int count,
                           size_t request_bytes)
    : window_bytes_(kFirstWindowBytes), first_window_bytes_(kFirstWindowBytes) {
  socket_ = http2::Connect(socket_path);
  Send(absl::StrCat(http2::kPreface, Frame(http2::kSettings, 0, 0, "")));
  const std::string prefix = http2::MessagePrefix(request_bytes);
  for (int i = 0; i < count; ++i) {
    const uint32_t stream = 2 * i + 1;
    Send(absl::StrCat(http2::RequestHeaders(stream, method),
                      Frame(http2::kData, 0, stream, prefix)));
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
    Send(Frame(http2::kData, 0, number, std::string(bytes, 'x')));
    if (lost_) return false;
    stream.left_bytes -= bytes;
    stream.window_bytes -= bytes;
    window_bytes_ -= bytes;
    sent_bytes_ += bytes;
  }
  return left;
}

void HalfRequests::Send(absl::string_view bytes) {
  if (!lost_ && !http2::SendAll(socket_, bytes)) Lose();
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
  if (type == http2::kSettings && (flags & http2::kAck) == 0) {
    ObeySettings(payload);
    Send(Frame(http2::kSettings, http2::kAck, 0, ""));
  } else if (type == http2::kPing && (flags & http2::kAck) == 0) {
    Send(Frame(http2::kPing, http2::kAck, 0, payload));
  } else if (type == http2::kWindowUpdate && payload.size() == sizeof(uint32_t)) {
    const uint32_t more_bytes = LoadBigEndian<uint32_t>(payload.data());
    if (stream == 0) window_bytes_ += more_bytes;
    if (known != streams_.end()) known->second.window_bytes += more_bytes;
  } else if (known != streams_.end() &&
             (type == http2::kReset ||
              (type == http2::kHeaders && (flags & http2::kEndStream) != 0))) {
    streams_.erase(known);
    ++ended_;
  }
}

void HalfRequests::ObeySettings(absl::string_view payload) {
  constexpr size_t kSettingBytes = 6;
  for (; payload.size() >= kSettingBytes; payload.remove_prefix(kSettingBytes)) {
    if (LoadBigEndian<uint16_t>(payload.data()) != http2::kInitialWindowSize) continue;
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
