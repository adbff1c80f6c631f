// A hostile client: on one connection it begins many gRPC requests, sends most of each, and never
// ends them. One thread.
#ifndef TESTS_FAULTS_HALF_REQUESTS_H_
#define TESTS_FAULTS_HALF_REQUESTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace tidemark::test {

class HalfRequests {
 public:
  // Connects to a unix socket and begins `count` requests of `method` ("/package.Service/Method"),
  // each of which says that it has `request_bytes`, and sends one byte less.
  HalfRequests(const std::string& socket_path, absl::string_view method, int count,
               size_t request_bytes);
  ~HalfRequests();
  HalfRequests(const HalfRequests&) = delete;
  HalfRequests& operator=(const HalfRequests&) = delete;

  // Sends what the server lets it, and reads what the server says. False: the server has ended the
  // connection, or there is nothing more to send.
  bool Pump();

  uint64_t sent_bytes() const { return sent_bytes_; }
  // Requests that the server has ended, those of a connection that it ended included.
  int ended() const { return ended_; }

 private:
  struct Stream {
    int64_t window_bytes;
    size_t left_bytes;
  };

  void Send(absl::string_view bytes);
  void Read();
  void Obey(uint8_t type, uint8_t flags, uint32_t stream, absl::string_view payload);
  void ObeySettings(absl::string_view payload);
  void Lose();

  int socket_ = -1;
  bool lost_ = false;
  std::string unread_;
  int64_t window_bytes_;
  int64_t first_window_bytes_;
  std::map<uint32_t, Stream> streams_;
  uint64_t sent_bytes_ = 0;
  int ended_ = 0;
};

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_HALF_REQUESTS_H_
