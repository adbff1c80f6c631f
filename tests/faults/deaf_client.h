// A client that sends requests, lets the service send as much as it likes, and never takes anything
// from its socket. One thread.
#ifndef TESTS_FAULTS_DEAF_CLIENT_H_
#define TESTS_FAULTS_DEAF_CLIENT_H_

#include <unistd.h>

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "tests/faults/http2.h"

namespace tidemark::test {

class DeafClient {
 public:
  // Connects to a unix socket and sends `count` requests of `method` without fields.
  DeafClient(const std::string& socket_path, absl::string_view method, int count)
      : socket_(http2::Connect(socket_path)) {
    constexpr uint32_t kWindowBytes = 0x7fffffff;
    const std::string windows =
        absl::StrCat(http2::BigEndian(http2::kInitialWindowSize), http2::BigEndian(kWindowBytes));
    const std::string more = http2::BigEndian(
        static_cast<uint32_t>(kWindowBytes - static_cast<uint32_t>(http2::kFirstWindowBytes)));
    CHECK(http2::SendAll(
        socket_, absl::StrCat(http2::kPreface, http2::Frame(http2::kSettings, 0, 0, windows),
                              http2::Frame(http2::kWindowUpdate, 0, 0, more))));
    for (int i = 0; i < count; ++i) {
      const uint32_t stream = 2 * i + 1;
      CHECK(http2::SendAll(socket_, absl::StrCat(http2::RequestHeaders(stream, method),
                                                 http2::Frame(http2::kData, http2::kEndStream,
                                                              stream, http2::MessagePrefix(0)))));
    }
  }
  ~DeafClient() { close(socket_); }
  DeafClient(const DeafClient&) = delete;
  DeafClient& operator=(const DeafClient&) = delete;

 private:
  const int socket_;
};

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_DEAF_CLIENT_H_
