// As much of HTTP/2 (RFC 9113) as clients need that no client library would be: which stop halfway,
// or never listen. Any thread.
#ifndef TESTS_FAULTS_HTTP2_H_
#define TESTS_FAULTS_HTTP2_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/endian.h"

namespace tidemark::test::http2 {

inline constexpr absl::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr size_t kFrameHeaderBytes = 9;
inline constexpr size_t kFramePayloadBytesMax = 16'384;
inline constexpr int64_t kFirstWindowBytes = 65'535;

// Types and flags of frames, section 6.
inline constexpr uint8_t kData = 0;
inline constexpr uint8_t kHeaders = 1;
inline constexpr uint8_t kReset = 3;
inline constexpr uint8_t kSettings = 4;
inline constexpr uint8_t kPing = 6;
inline constexpr uint8_t kWindowUpdate = 8;
inline constexpr uint8_t kAck = 1;
inline constexpr uint8_t kEndStream = 1;
inline constexpr uint8_t kEndHeaders = 4;
inline constexpr uint16_t kInitialWindowSize = 4;

template <typename T>
std::string BigEndian(T value) {
  std::string bytes(sizeof value, '\0');
  StoreBigEndian(bytes.data(), value);
  return bytes;
}

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload);
// The frame that begins a gRPC request of `method` ("/package.Service/Method").
std::string RequestHeaders(uint32_t stream, absl::string_view method);
// What stands before each gRPC message: that it is not compressed, and its length.
std::string MessagePrefix(size_t message_bytes);

// A connection to a unix socket; dies if there is none to be had.
int Connect(const std::string& socket_path);
// False: the peer has ended the connection. Waits until it takes the bytes.
bool SendAll(int socket, absl::string_view bytes);

}  // namespace tidemark::test::http2

#endif  // TESTS_FAULTS_HTTP2_H_
