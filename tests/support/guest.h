// The guest: an NBD client that knows what its disk should hold. One thread at a time.
#ifndef TESTS_SUPPORT_GUEST_H_
#define TESTS_SUPPORT_GUEST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/range.h"
#include "tests/support/byte_model.h"

struct nbd_handle;

namespace tidemark::test {

// A stretch of an NBD metadata context.
struct Extent {
  Range range;
  uint32_t flags = 0;

  friend bool operator==(const Extent&, const Extent&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Extent& extent) {
    return out << extent.range << ":" << extent.flags;
  }
};

// Where a guest finds its disk.
struct NbdPlace {
  std::string socket;
  std::string export_name;
};

class Guest {
 public:
  // Connects, and asks for `contexts` ("base:allocation", "qemu:dirty-bitmap:b0"). `model` is what
  // the disk holds; it is shared by all who write to that disk, one after the other.
  Guest(const NbdPlace& place, std::shared_ptr<ByteModel> model,
        const std::vector<std::string>& contexts = {});
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  // False if the server refused the connection; `error` says why.
  bool connected() const { return connected_; }
  const std::string& error() const { return error_; }
  nbd_handle* handle() const { return handle_; }

  // These report a failure of the running test if the server fails them.
  void Write(uint64_t pattern, Range range);
  // Writes zeroes; the server may punch a hole.
  void Zero(Range range);
  // Discards. The model takes over what the disk then reads, which must be old data or zeroes.
  void Trim(Range range);
  void Flush();
  std::string Read(Range range);
  // Reads all; the model should hold the same.
  std::string ReadAll();

  // These give the errno with which the server fails them, 0 if it does not.
  int TryWrite(uint64_t pattern, Range range, bool force_unit_access = false);
  int TryRead(Range range);
  int TryZero(Range range);
  int TryFlush();

  // The whole disk in one metadata context, touching extents of equal flags merged.
  std::vector<Extent> Extents(const std::string& context);
  // Those of Extents whose flags have all of `mask`.
  Ranges ExtentsWith(const std::string& context, uint32_t mask);

  uint64_t size_bytes() const;
  const ByteModel& model() const { return *model_; }
  ByteModel& mutable_model() { return *model_; }

 private:
  const std::shared_ptr<ByteModel> model_;
  nbd_handle* handle_ = nullptr;
  bool connected_ = false;
  std::string error_;
};

// "disk0 (a description)" for each export that the server lists; the error if it cannot.
std::vector<std::string> ListExports(const std::string& socket);

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_GUEST_H_
