// A half-open stretch of bytes: a type, so that no two bare integers travel in a call.
// A plain value; any thread.
#ifndef ENGINE_BASE_RANGE_H_
#define ENGINE_BASE_RANGE_H_

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"

namespace tidemark {

struct Range {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;

  // The range from `begin_bytes` up to, not including, `end_bytes`; empty if they cross.
  static constexpr Range FromTo(uint64_t begin_bytes, uint64_t end_bytes) {
    return {begin_bytes, end_bytes > begin_bytes ? end_bytes - begin_bytes : 0};
  }

  // The first byte after the range. Meaningful only if `FitsIn` some size: a hostile range can
  // wrap.
  constexpr uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  constexpr bool empty() const { return length_bytes == 0; }

  // True if no byte lies at or past `size_bytes`. Safe for any values, also those whose end wraps.
  constexpr bool FitsIn(uint64_t size_bytes) const {
    return offset_bytes <= size_bytes && length_bytes <= size_bytes - offset_bytes;
  }
  constexpr bool Contains(uint64_t byte) const {
    return byte >= offset_bytes && byte - offset_bytes < length_bytes;
  }
  constexpr bool Overlaps(Range other) const {
    return offset_bytes < other.end_bytes() && other.offset_bytes < end_bytes() && !empty() &&
           !other.empty();
  }
  constexpr Range Intersect(Range other) const {
    return FromTo(std::max(offset_bytes, other.offset_bytes),
                  std::min(end_bytes(), other.end_bytes()));
  }
  // The smallest range of whole units of `unit_bytes` (a power of two) that covers this one.
  constexpr Range AlignedOut(uint64_t unit_bytes) const {
    const uint64_t mask = unit_bytes - 1;
    return FromTo(offset_bytes & ~mask, (end_bytes() + mask) & ~mask);
  }

  std::string ToString() const { return absl::StrCat("[", offset_bytes, ", ", end_bytes(), ")"); }

  friend constexpr bool operator==(const Range&, const Range&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Range& range) {
    return out << range.ToString();
  }
};

}  // namespace tidemark

#endif  // ENGINE_BASE_RANGE_H_
