#include "engine/bitmap/words.h"

#include <bit>

namespace tidemark::bitmap {
namespace {

// Pairs of bits become one bit each, in the lower half.
uint64_t FoldOnce(uint64_t word) {
  word = (word | word >> 1) & 0x5555555555555555;
  word = (word | word >> 1) & 0x3333333333333333;
  word = (word | word >> 2) & 0x0f0f0f0f0f0f0f0f;
  word = (word | word >> 4) & 0x00ff00ff00ff00ff;
  word = (word | word >> 8) & 0x0000ffff0000ffff;
  return (word | word >> 16) & 0x00000000ffffffff;
}

// Each bit of the lower half becomes two.
uint64_t UnfoldOnce(uint64_t bits) {
  bits &= 0x00000000ffffffff;
  bits = (bits | bits << 16) & 0x0000ffff0000ffff;
  bits = (bits | bits << 8) & 0x00ff00ff00ff00ff;
  bits = (bits | bits << 4) & 0x0f0f0f0f0f0f0f0f;
  bits = (bits | bits << 2) & 0x3333333333333333;
  bits = (bits | bits << 1) & 0x5555555555555555;
  return bits | bits << 1;
}

}  // namespace

uint64_t FindInWords(const uint64_t* words, uint64_t from, uint64_t end, uint64_t inverted) {
  constexpr uint64_t kStrideWords = 8;
  if (from >= end) return end;
  uint64_t index = from / kWordBits;
  const uint64_t index_end = WordsFor(end);
  uint64_t found = (LoadWord(words[index]) ^ inverted) & (~uint64_t{0} << (from % kWordBits));
  while (found == 0 && ++index < index_end) {
    // A cache line at a time.
    while (index + kStrideWords <= index_end) {
      uint64_t any = 0;
      for (uint64_t i = 0; i < kStrideWords; ++i) any |= LoadWord(words[index + i]) ^ inverted;
      if (any != 0) break;
      index += kStrideWords;
    }
    if (index == index_end) break;
    found = LoadWord(words[index]) ^ inverted;
  }
  if (found == 0) return end;
  return std::min(end, index * kWordBits + std::countr_zero(found));
}

uint64_t FoldWord(uint64_t word, int shift) {
  if (word == 0) return 0;
  for (int i = 0; i < shift; ++i) word = FoldOnce(word);
  return word;
}

uint64_t UnfoldWord(uint64_t bits, int shift) {
  for (int i = 0; i < shift; ++i) bits = UnfoldOnce(bits);
  return bits;
}

}  // namespace tidemark::bitmap
