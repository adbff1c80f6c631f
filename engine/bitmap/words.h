// Bits in words of 64, least significant first: what the structures of this package share. Pure
// functions and atomic access; any thread.
#ifndef ENGINE_BITMAP_WORDS_H_
#define ENGINE_BITMAP_WORDS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tidemark::bitmap {

inline constexpr uint64_t kWordBits = 64;

// Words are changed by one thread at a time and read by others meanwhile. Whoever sees a stored
// word sees what its writer did before.
inline uint64_t LoadWord(const uint64_t& word) {
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
}
inline void StoreWord(uint64_t& word, uint64_t value) {
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
}

// Bits [begin, end) of a word; begin < end <= 64.
inline uint64_t Mask(uint64_t begin, uint64_t end) {
  const uint64_t below_end = end == kWordBits ? ~uint64_t{0} : (uint64_t{1} << end) - 1;
  return below_end & (~uint64_t{0} << begin);
}

inline uint64_t WordsFor(uint64_t bit_count) {
  return bit_count / kWordBits + (bit_count % kWordBits != 0 ? 1 : 0);
}

// Calls visit(index of word, mask of the bits of [begin, end) in it) for every word touched.
template <typename Visit>
void ForEachWord(uint64_t begin, uint64_t end, Visit visit) {
  while (begin < end) {
    const uint64_t index = begin / kWordBits;
    const uint64_t word_end = std::min(end, (index + 1) * kWordBits);
    visit(index, Mask(begin % kWordBits, word_end - index * kWordBits));
    begin = word_end;
  }
}

// The first bit in [from, end) that, XORed with one of `inverted`, is 1; `end` if there is none.
uint64_t FindInWords(const uint64_t* words, uint64_t from, uint64_t end, uint64_t inverted);

// 64 bits in groups of 2^shift become one bit a group, set if any of the group is; shift <= 6.
uint64_t FoldWord(uint64_t word, int shift);
// The low 64 >> shift bits become 2^shift equal bits each; shift <= 6.
uint64_t UnfoldWord(uint64_t bits, int shift);

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_WORDS_H_
