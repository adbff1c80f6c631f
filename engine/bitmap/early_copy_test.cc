// What is made ahead is what it would have been at the moment itself, and that moment costs no more
// than what has changed meanwhile.
#include "engine/bitmap/early_copy.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "engine/bitmap/words.h"

namespace tidemark::bitmap {
namespace {

constexpr uint64_t kFine = 4096;
constexpr uint64_t kUnit = 65536;
constexpr uint64_t kGibibyte = uint64_t{1} << 30;
// What a chunk of the fine bitmap stands for.
constexpr uint64_t kChunk = kChunkBits * kFine;

// Every chunk has clean and dirty granules.
std::unique_ptr<DirtyBitmap> Mixed(uint64_t size_bytes, uint64_t granularity_bytes) {
  auto bitmap = std::make_unique<DirtyBitmap>(size_bytes, granularity_bytes);
  for (uint64_t at = 0; at < size_bytes; at += 3 * 1024 * 1024) bitmap->Set({at, 1});
  return bitmap;
}

TEST(EarlyCopyTest, WhatHasChangedIsAllThatIsLookedAt) {
  const auto source = Mixed(512 * kGibibyte, kFine);
  const auto then = source->Copy();
  EXPECT_TRUE(source->ChangedSince(*then).empty());
  // Three guests' writes, two of them side by side.
  source->Set({5 * kChunk, kFine});
  source->Set({6 * kChunk + 7 * kFine, kFine});
  source->Set({100 * kGibibyte, kFine});
  const std::vector<Range> changed = source->ChangedSince(*then);
  ASSERT_EQ(changed.size(), 2u);
  EXPECT_EQ(changed[0], (Range{5 * kChunk, 2 * kChunk}));
  EXPECT_EQ(changed[1], (Range{100 * kGibibyte / kChunk * kChunk, kChunk}));
}

TEST(EarlyCopyTest, ItIsAsIfItHadBeenMadeAtTheEnd) {
  std::mt19937_64 random(7);
  // Coarser, finer, the same; and a disk that ends within everything.
  for (const uint64_t granularity_bytes : {kUnit, uint64_t{2} << 20, uint64_t{512}, kFine}) {
    for (int round = 0; round < 20; ++round) {
      const uint64_t size_bytes = kGibibyte - 512 * (round % 5);
      const auto source = Mixed(size_bytes, kFine);
      if (round % 3 == 0) source->Set({0, size_bytes / 2});
      auto early = *EarlyCopy::Make(*source, granularity_bytes);
      for (int change = 0; change < round; ++change) {
        const Range range{random() % size_bytes, 1 + random() % (1 << (random() % 28))};
        const Range within{range.offset_bytes & ~(kFine - 1), range.length_bytes};
        random() % 2 == 0 ? source->Set(range) : source->Clear(within);
      }
      if (round == 19) source->ClearAll();
      const auto expected = *source->CopyWithGranularity(granularity_bytes);
      const auto made = *early->Finish(*source);
      ASSERT_EQ(made->Sha256(), expected->Sha256()) << granularity_bytes << " round " << round;
    }
  }
}

TEST(EarlyCopyTest, AnotherBitmapInItsPlaceIsTakenAsItIs) {
  const auto source = Mixed(kGibibyte, kFine);
  // A successor, that shares memory; a stranger; one of another size, and of another granularity.
  const auto successor = source->Empty();
  successor->Set({5 * kUnit, 1});
  const auto stranger = Mixed(kGibibyte, kFine);
  stranger->Clear({0, kGibibyte / 2});
  const auto larger = Mixed(2 * kGibibyte, kFine);
  const auto coarser = Mixed(kGibibyte, 2 * kUnit);
  for (const DirtyBitmap* other : {successor.get(), stranger.get(), larger.get(), coarser.get()}) {
    auto early = *EarlyCopy::Make(*source, kUnit);
    EXPECT_EQ((*early->Finish(*other))->Sha256(), (*other->CopyWithGranularity(kUnit))->Sha256());
  }
}

}  // namespace
}  // namespace tidemark::bitmap
