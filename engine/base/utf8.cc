#include "engine/base/utf8.h"

#include <algorithm>
#include <bit>

namespace tidemark {
namespace {

constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD.

unsigned char ByteAt(absl::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

// Bytes that QEMU takes for one broken character at the beginning of `text`: as many as the first
// one announces, as far as they are there.
size_t BrokenLength(absl::string_view text) {
  const int announced = std::countl_one(ByteAt(text, 0));
  // A byte from the middle of a character, or one that no character has.
  if (announced < 2 || announced > 6) return 1;
  const size_t length_max = std::min<size_t>(announced, text.size());
  size_t length = 1;
  while (length < length_max && (ByteAt(text, length) & 0xc0) == 0x80) ++length;
  return length;
}

}  // namespace

size_t Utf8CharacterLength(absl::string_view text) {
  const unsigned char first = ByteAt(text, 0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((ByteAt(text, i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond Unicode.
  const unsigned char second = ByteAt(text, 1);
  if (first == 0xe0 && second < 0xa0) return 0;
  if (first == 0xed && second >= 0xa0) return 0;
  if (first == 0xf0 && second < 0x90) return 0;
  if (first == 0xf4 && second >= 0x90) return 0;
  return length;
}

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string ToUtf8(absl::string_view text) {
  if (IsUtf8(text)) return std::string(text);
  std::string clean;
  while (!text.empty()) {
    size_t length = Utf8CharacterLength(text);
    if (length != 0) {
      clean.append(text.data(), length);
    } else {
      length = BrokenLength(text);
      clean.append(kReplacement.data(), kReplacement.size());
    }
    text.remove_prefix(length);
  }
  return clean;
}

}  // namespace tidemark
