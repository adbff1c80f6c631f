#include "engine/bitmap/scaling.h"

#include <algorithm>
#include <array>

#include "absl/types/span.h"
#include "engine/bitmap/limits.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {
namespace {

// 2^6 bits are a word.
constexpr int kWordShift = 6;

using ChunkOfWords = std::array<uint64_t, kChunkWords>;
using Stretch = SparseBits::Stretch;

// visit(piece, first bit, words) for all that is not clean, in order.
template <typename Visit>
void ForEachPiece(const SparseBits& source, Visit visit) {
  ChunkOfWords words;
  uint64_t at = 0;
  while (at < source.bit_count()) {
    const SparseBits::Piece piece = source.Read(at, words.data());
    if (piece.kind != SparseBits::Piece::kZeroes) visit(piece, at, words);
    if (piece.end <= at) break;  // It shrinks meanwhile.
    at = piece.end;
  }
}

// The words of a chunk from `first` on, each group folded to one bit, into `target`.
void OrFolded(uint64_t first, const ChunkOfWords& words, int shift, SparseBits* target) {
  ChunkOfWords folded = {};
  const uint64_t bits_each = kWordBits >> shift;
  for (uint64_t i = 0; i < kChunkWords; ++i) {
    const uint64_t at = i * bits_each;
    folded[at / kWordBits] |= FoldWord(words[i], shift) << (at % kWordBits);
  }
  target->OrWords(first >> shift, absl::MakeConstSpan(folded).first(kChunkWords >> shift));
}

// As OrFolded where a group is a word or more.
void SetFolded(uint64_t first, const ChunkOfWords& words, int shift, SparseBits* target) {
  uint64_t last_set = ~uint64_t{0};
  for (uint64_t i = 0; i < kChunkWords; ++i) {
    const uint64_t at = (first + i * kWordBits) >> shift;
    if (words[i] == 0 || at == last_set) continue;
    target->Set({at, at + 1});
    last_set = at;
  }
}

void OrUnfolded(uint64_t first, const ChunkOfWords& words, int shift, SparseBits* target) {
  const uint64_t bits_each = kWordBits >> shift;
  ChunkOfWords unfolded;
  for (uint64_t part = 0; part < uint64_t{1} << shift; ++part) {
    uint64_t any = 0;
    for (uint64_t i = 0; i < kChunkWords; ++i) {
      const uint64_t at = (part * kChunkWords + i) * bits_each;
      unfolded[i] = UnfoldWord(words[at / kWordBits] >> (at % kWordBits), shift);
      any |= unfolded[i];
    }
    if (any != 0) target->OrWords((first << shift) + part * kChunkBits, unfolded);
  }
}

}  // namespace

void OrCoarser(const SparseBits& source, int shift, SparseBits* target) {
  ForEachPiece(source, [&](const SparseBits::Piece& piece, uint64_t at, const ChunkOfWords& words) {
    if (piece.kind == SparseBits::Piece::kOnes) {
      target->Set({at >> shift, ((piece.end - 1) >> shift) + 1});
    } else if (shift <= kWordShift) {
      OrFolded(at, words, shift, target);
    } else {
      SetFolded(at, words, shift, target);
    }
  });
}

void OrFiner(const SparseBits& source, int shift, SparseBits* target) {
  ForEachPiece(source, [&](const SparseBits::Piece& piece, uint64_t at, const ChunkOfWords& words) {
    if (piece.kind == SparseBits::Piece::kOnes) {
      target->Set({at << shift, piece.end << shift});
    } else if (shift <= kWordShift) {
      OrUnfolded(at, words, shift, target);
    } else {
      const uint64_t count = piece.end - at;
      for (uint64_t begin = 0; begin < count;) {
        begin = FindInWords(words.data(), begin, count, 0);
        if (begin == count) break;
        const uint64_t end = FindInWords(words.data(), begin, count, ~uint64_t{0});
        target->Set({(at + begin) << shift, (at + end) << shift});
        begin = end;
      }
    }
  });
}

}  // namespace tidemark::bitmap
