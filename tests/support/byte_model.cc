#include "tests/support/byte_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tidemark::test {
namespace {

constexpr uint64_t kSectorBytes = 512;

}  // namespace

Ranges Merged(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](Range left, Range right) { return left.offset_bytes < right.offset_bytes; });
  Ranges merged;
  for (Range range : ranges) {
    if (range.empty()) continue;
    if (!merged.empty() && range.offset_bytes <= merged.back().end_bytes()) {
      merged.back() = Range::FromTo(merged.back().offset_bytes,
                                    std::max(merged.back().end_bytes(), range.end_bytes()));
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

Ranges AlignedOut(const Ranges& ranges, uint64_t unit_bytes, uint64_t size_bytes) {
  Ranges aligned;
  for (Range range : ranges) {
    aligned.push_back(range.AlignedOut(unit_bytes).Intersect({0, size_bytes}));
  }
  return Merged(std::move(aligned));
}

uint64_t BytesIn(const Ranges& ranges) {
  uint64_t sum = 0;
  for (Range range : Merged(ranges)) sum += range.length_bytes;
  return sum;
}

std::string ToString(const Ranges& ranges) {
  if (ranges.empty()) return "nothing";
  std::string text;
  for (Range range : ranges) absl::StrAppend(&text, text.empty() ? "" : " ", range.ToString());
  return text;
}

std::string PatternBytes(uint64_t pattern, Range range) {
  std::string bytes(range.length_bytes, '\0');
  const char fill = static_cast<char>(1 + pattern % 255);
  memset(bytes.data(), fill, bytes.size());
  for (uint64_t at = Range{range.offset_bytes, 1}.AlignedOut(kSectorBytes).offset_bytes;
       at < range.end_bytes(); at += kSectorBytes) {
    const uint64_t words[2] = {at, pattern};
    if (at >= range.offset_bytes && at + sizeof(words) <= range.end_bytes()) {
      memcpy(bytes.data() + (at - range.offset_bytes), words, sizeof(words));
    }
  }
  return bytes;
}

Ranges Differences(absl::string_view left, absl::string_view right) {
  Ranges ranges;
  const uint64_t common = std::min(left.size(), right.size());
  for (uint64_t at = 0; at < common; at += kSectorBytes) {
    const uint64_t length = std::min(kSectorBytes, common - at);
    if (memcmp(left.data() + at, right.data() + at, length) != 0) ranges.push_back({at, length});
  }
  ranges.push_back(Range::FromTo(common, std::max(left.size(), right.size())));
  return Merged(std::move(ranges));
}

void ByteModel::Write(uint64_t pattern, Range range) {
  CHECK(range.FitsIn(bytes_.size()));
  bytes_.replace(range.offset_bytes, range.length_bytes, PatternBytes(pattern, range));
}

void ByteModel::Zero(Range range) {
  CHECK(range.FitsIn(bytes_.size()));
  bytes_.replace(range.offset_bytes, range.length_bytes, range.length_bytes, '\0');
}

}  // namespace tidemark::test
