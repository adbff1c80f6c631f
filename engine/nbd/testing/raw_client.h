// A client that says whatever a test wants, byte by byte, and is bound to no rule of the protocol.
// It knows its layout from the specification, not from the server's headers. One thread at a time.
#ifndef ENGINE_NBD_TESTING_RAW_CLIENT_H_
#define ENGINE_NBD_TESTING_RAW_CLIENT_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace tidemark::nbd {

class RawClient {
 public:
  // Connects to a unix socket (CHECKed).
  explicit RawClient(const std::string& path);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False if the server has hung up.
  bool Send(absl::string_view bytes);
  // Sends what the server will take without waiting for it; returns how much that was.
  size_t SendWithoutWaiting(absl::string_view bytes);
  // Exactly so many bytes; absent if the server hung up first.
  absl::optional<std::string> Receive(size_t count);
  // Everything until the server hangs up.
  std::string ReceiveToEnd();
  // No more will be sent: the server sees the end of the stream.
  void EndSending();

  // Greeting and client flags; false if the server hung up.
  bool Greet(uint32_t client_flags = 3);
  // Chooses an export with NBD_OPT_EXPORT_NAME; true if it is open.
  bool ChooseExport(absl::string_view name);

  struct OptionReply {
    uint32_t type = 0;
    std::string data;
  };
  // The next reply to an option; absent if the server hung up.
  absl::optional<OptionReply> ReceiveOptionReply();
  struct SimpleReply {
    uint32_t error = 0;
    uint64_t cookie = 0;
  };
  absl::optional<SimpleReply> ReceiveSimpleReply();

  // Encoders.
  static std::string U16(uint16_t value);
  static std::string U32(uint32_t value);
  static std::string U64(uint64_t value);
  static std::string Option(uint32_t option, absl::string_view data);
  // An option header that announces another length than the data has.
  static std::string OptionHeader(uint32_t option, uint32_t length);
  static std::string Request(uint16_t flags, uint16_t command, uint64_t cookie, uint64_t offset,
                             uint32_t length);

 private:
  const int fd_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_TESTING_RAW_CLIENT_H_
