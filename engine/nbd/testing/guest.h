// A client made with libnbd: an independent judge of the server. Failures of libnbd are values:
// every verb returns 0, or the errno that the server (or libnbd) gave. One thread at a time.
#ifndef ENGINE_NBD_TESTING_GUEST_H_
#define ENGINE_NBD_TESTING_GUEST_H_

#include <libnbd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/nbd/address.h"

namespace tidemark::nbd {

class Guest {
 public:
  struct Wishes {
    std::string export_name;
    std::vector<std::string> contexts;
    bool structured = true;
    bool fixed_newstyle = true;
    // Stop before an export is chosen, for the opt verbs of libnbd.
    bool stay_in_options = false;
  };
  // One answer about a context: lengths with flags.
  using Extents = std::vector<std::pair<uint32_t, uint32_t>>;
  struct ReadChunk {
    enum class Kind { kData, kHole, kError } kind;
    uint64_t offset_bytes;
    uint64_t length_bytes;
    friend bool operator==(const ReadChunk&, const ReadChunk&) = default;
  };

  Guest() : handle_(nbd_create()) {}
  ~Guest() { nbd_close(handle_); }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // 0 once the export is open.
  int Connect(const Address& address, const Wishes& wishes);
  nbd_handle* handle() { return handle_; }
  // What libnbd says about the last failure.
  std::string error() const { return error_; }

  std::string Read(uint64_t offset_bytes, uint64_t length_bytes);  // Empty on failure.
  int TryRead(uint64_t offset_bytes, uint64_t length_bytes);
  std::vector<ReadChunk> ReadChunks(uint64_t offset_bytes, uint64_t length_bytes,
                                    uint32_t flags = 0);
  int Write(uint64_t offset_bytes, const std::string& data, uint32_t flags = 0);
  int Zero(uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags = 0);
  int Trim(uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags = 0);
  int Cache(uint64_t offset_bytes, uint64_t length_bytes);
  int Flush();
  // What context `name` says about a range; empty on failure.
  Extents Status(const std::string& name, uint64_t offset_bytes, uint64_t length_bytes,
                 uint32_t flags = 0);
  int TryStatus(uint64_t offset_bytes, uint64_t length_bytes);
  // Leaves in good order.
  void Leave() { nbd_shutdown(handle_, 0); }

  // Starts a write and returns its cookie; Await waits for the outcome of one.
  int64_t StartWrite(uint64_t offset_bytes, const std::string& data);
  int64_t StartRead(uint64_t offset_bytes, std::string* into);
  int64_t StartFlush();
  int Await(int64_t cookie);

 private:
  int Result(int result);

  nbd_handle* const handle_;
  std::string error_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_TESTING_GUEST_H_
