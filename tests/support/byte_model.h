// What a disk should hold: the simplest thing that can predict it, an array of bytes. One thread.
#ifndef TESTS_SUPPORT_BYTE_MODEL_H_
#define TESTS_SUPPORT_BYTE_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/range.h"

namespace tidemark::test {

// Ranges that do not touch, in order.
using Ranges = std::vector<Range>;

// `ranges` sorted, with overlapping and touching ones merged and empty ones gone.
Ranges Merged(Ranges ranges);
// Whole units of `unit_bytes` that `ranges` touch, merged, cut off at `size_bytes`.
Ranges AlignedOut(const Ranges& ranges, uint64_t unit_bytes, uint64_t size_bytes);
uint64_t BytesIn(const Ranges& ranges);
// "[0, 65536) [131072, 196608)"; "nothing" if empty.
std::string ToString(const Ranges& ranges);

// The bytes that a guest writes for `pattern`: each 512 bytes say where they belong, so that data
// in a wrong place or of another write are seen.
std::string PatternBytes(uint64_t pattern, Range range);

// Where two byte strings differ, in units of 512 bytes; what only one of them has differs.
Ranges Differences(absl::string_view left, absl::string_view right);

class ByteModel {
 public:
  explicit ByteModel(uint64_t size_bytes) : bytes_(size_bytes, '\0') {}

  void Write(uint64_t pattern, Range range);
  void Zero(Range range);
  // Grows with zeroes, or cuts off.
  void Resize(uint64_t size_bytes) { bytes_.resize(size_bytes, '\0'); }

  uint64_t size_bytes() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Units of 64 KiB, the cluster of a qcow2 image that says nothing else: `count` of them from
// number `first` on.
constexpr uint64_t kClusterBytes = 64 * 1024;
constexpr Range Clusters(uint64_t first, uint64_t count) {
  return {first * kClusterBytes, count * kClusterBytes};
}
constexpr uint64_t kMiB = 1024 * 1024;

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_BYTE_MODEL_H_
