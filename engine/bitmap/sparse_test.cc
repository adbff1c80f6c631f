// What is uniform costs nothing, what is shared is shared until it changes, and the edges between
// words, chunks and nodes are no edges to anybody.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/bitmap/dirty_bitmap.h"
#include "engine/bitmap/limits.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {
namespace {

constexpr uint64_t kEverything = ~uint64_t{0};
constexpr uint64_t kTebibyte = uint64_t{1} << 40;
constexpr uint64_t kGranule = 65536;
constexpr uint64_t kLargest = kGranuleCountMax * kGranule;
constexpr uint64_t kUniformBytesMax = 16 << 10;

// What a chunk and a node stand for.
constexpr uint64_t kChunk = kChunkBits * kGranule;
constexpr uint64_t kNode = kNodeBits * kGranule;

std::unique_ptr<DirtyBitmap> AllDirty(uint64_t size_bytes) {
  auto bitmap = std::make_unique<DirtyBitmap>(size_bytes, kGranule);
  bitmap->SetAll();
  return bitmap;
}

// ---- Uniform ----

TEST(SparseBitmap, OfTheLargestDiskCostsSomeKilobytesWhileItIsUniform) {
  DirtyBitmap bitmap(kLargest, kGranule);
  EXPECT_LE(bitmap.MemoryBytes(), kUniformBytesMax);
  bitmap.SetAll();
  EXPECT_EQ(bitmap.CountBytes(), kLargest);
  EXPECT_EQ(bitmap.NextClean(0), kLargest);
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), (Range{0, kLargest}));
  DirtyBitmap merged(kLargest, kGranule);
  ASSERT_TRUE(merged.Merge(bitmap).ok());
  DirtyBitmap coarser(kLargest, 1 << 20);
  ASSERT_TRUE(coarser.Merge(bitmap).ok());
  EXPECT_EQ(coarser.CountBytes(), kLargest);
  DirtyBitmap finer(kLargest, kGranule);
  ASSERT_TRUE(finer.Merge(coarser).ok());
  EXPECT_EQ(finer.CountBytes(), kLargest);
  bitmap.ClearAll();
  EXPECT_TRUE(bitmap.IsEmpty());
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), absl::nullopt);
  for (const DirtyBitmap* each : {&bitmap, &merged, &coarser, &finer}) {
    EXPECT_LE(each->MemoryBytes(), kUniformBytesMax);
    EXPECT_EQ(each->work().chunks_made, 0);
  }
}

TEST(SparseBitmap, HoldsAChunkForWhatIsMixedAndLetsItGo) {
  DirtyBitmap bitmap(64 * kTebibyte, kGranule);
  const uint64_t empty_bytes = bitmap.MemoryBytes();
  bitmap.Set({5 * kChunk + 3, 1});
  bitmap.Set({5 * kChunk + kGranule * 100, kGranule});
  EXPECT_EQ(bitmap.work().chunks_made, 1);
  EXPECT_LE(bitmap.MemoryBytes(), empty_bytes + 2 * kChunkBytes + sizeof(Node));
  bitmap.Clear({5 * kChunk, kChunk});
  EXPECT_EQ(bitmap.MemoryBytes(), empty_bytes);
}

TEST(SparseBitmap, WrittenFromEndToEndItIsUniformAgain) {
  DirtyBitmap bitmap(4 * kChunk, kGranule);
  const uint64_t empty_bytes = bitmap.MemoryBytes();
  for (uint64_t at = 0; at < 4 * kChunk; at += kGranule) bitmap.Set({at, kGranule});
  EXPECT_EQ(bitmap.CountBytes(), 4 * kChunk);
  EXPECT_EQ(bitmap.MemoryBytes(), empty_bytes);
  EXPECT_EQ(bitmap.work().chunks_made, 4);
}

TEST(SparseBitmap, ACopyThatTakesAllInOrderHoldsOneChunkAtATime) {
  const std::unique_ptr<DirtyBitmap> bitmap = AllDirty(kNode + 5 * kChunk);
  uint64_t at = 0;
  uint64_t most_bytes = 0;
  uint64_t taken_bytes = 0;
  while (const absl::optional<Range> taken = bitmap->TakeNextDirty(at, 64 << 20)) {
    ASSERT_EQ(taken->offset_bytes, at);
    at = taken->end_bytes();
    taken_bytes += taken->length_bytes;
    most_bytes = std::max(most_bytes, bitmap->MemoryBytes());
  }
  EXPECT_EQ(taken_bytes, kNode + 5 * kChunk);
  EXPECT_LE(most_bytes, 2 * kChunkBytes + 2 * sizeof(Node));
  EXPECT_TRUE(bitmap->IsEmpty());
}

TEST(SparseBitmap, LooksAcrossEdgesOfWordsChunksAndNodes) {
  const uint64_t size_bytes = 2 * kNode + 3 * kChunk + 70 * kGranule + 1;
  const Range ranges[] = {
      Range::FromTo(kNode - kGranule, kNode + kGranule),
      Range::FromTo(kNode - kChunk - 1, kNode + kChunk + 1),
      Range::FromTo(kChunk, 2 * kNode),
      Range::FromTo(0, size_bytes),
      Range::FromTo(2 * kNode - 64 * kGranule, size_bytes),
      Range::FromTo(2 * kNode + 3 * kChunk, size_bytes),
  };
  for (const Range& range : ranges) {
    SCOPED_TRACE(range.ToString());
    const Range granules = range.AlignedOut(kGranule).Intersect({0, size_bytes});
    DirtyBitmap set(size_bytes, kGranule);
    set.Set(range);
    EXPECT_EQ(set.NextDirty(0, kEverything), granules);
    EXPECT_EQ(set.NextClean(range.offset_bytes), granules.end_bytes());
    EXPECT_EQ(set.CountBytes(), granules.AlignedOut(kGranule).length_bytes);
    const std::unique_ptr<DirtyBitmap> cleared = AllDirty(size_bytes);
    cleared->Clear(range);
    EXPECT_EQ(cleared->NextClean(0), granules.offset_bytes);
    const auto after = cleared->NextDirty(range.offset_bytes, kEverything);
    EXPECT_EQ(after.has_value() ? after->offset_bytes : size_bytes, granules.end_bytes());
    ASSERT_TRUE(cleared->Merge(set).ok());
    EXPECT_EQ(cleared->NextClean(0), size_bytes);
  }
}

TEST(SparseBitmap, AllDirtyMeansUpToTheEndAlsoWhenTheEndMoves) {
  for (const uint64_t old_bytes : {kNode / 2, kNode, kChunk, kChunk + kGranule, 3 * kGranule}) {
    for (const uint64_t new_bytes : {kNode + kGranule, 2 * kNode + kChunk + kGranule}) {
      const std::unique_ptr<DirtyBitmap> bitmap = AllDirty(old_bytes);
      const std::unique_ptr<DirtyBitmap> copy = bitmap->Copy();
      ASSERT_TRUE(bitmap->Resize(new_bytes).ok());
      EXPECT_EQ(bitmap->NextClean(0), old_bytes);
      EXPECT_EQ(bitmap->CountBytes(), old_bytes);
      EXPECT_EQ(bitmap->NextDirty(old_bytes, kEverything), absl::nullopt);
      EXPECT_EQ(copy->CountBytes(), old_bytes);
      ASSERT_TRUE(bitmap->Resize(2 * kGranule).ok());
      ASSERT_TRUE(bitmap->Resize(old_bytes).ok());
      EXPECT_EQ(bitmap->CountBytes(), 2 * kGranule);
    }
  }
}

// ---- Sharing ----

TEST(SparseBitmap, ACopySharesAllUntilOneOfThemChanges) {
  DirtyBitmap bitmap(64 * kTebibyte, kGranule);
  for (uint64_t at = 0; at < 64 * kTebibyte; at += kNode / 4) bitmap.Set({at, 1});
  const SparseBits::Work before = bitmap.work();
  const std::unique_ptr<DirtyBitmap> copy = bitmap.Copy();
  EXPECT_EQ(copy->CountBytes(), bitmap.CountBytes());
  EXPECT_EQ(bitmap.work().chunks_made, before.chunks_made);
  EXPECT_EQ(bitmap.work().chunks_cloned, 0);
  EXPECT_EQ(bitmap.work().nodes_cloned, 0);

  bitmap.Set({kGranule, 1});
  EXPECT_EQ(bitmap.work().chunks_cloned, 1);
  EXPECT_EQ(bitmap.work().nodes_cloned, 1);
  EXPECT_FALSE(copy->IsDirty(kGranule));
  copy->Clear({0, 1});
  EXPECT_TRUE(bitmap.IsDirty(0));
  EXPECT_EQ(bitmap.CountBytes(), copy->CountBytes() + 2 * kGranule);
}

TEST(SparseBitmap, WhatIsAskedOfACopyInVainCopiesNothing) {
  DirtyBitmap bitmap(kTebibyte, kGranule);
  bitmap.Set({kGranule, kGranule});
  const std::unique_ptr<DirtyBitmap> copy = bitmap.Copy();
  bitmap.Set({kGranule, 1});
  bitmap.Clear({0, kGranule});
  copy->Clear({2 * kGranule, kEverything});
  EXPECT_EQ(bitmap.work().chunks_cloned, 0);
}

TEST(SparseBitmap, FrozenAndPutTogetherAgainNoWordIsCopied) {
  // A backup's way: the bitmap stands still, its successor records, and both become one.
  DirtyBitmap bitmap(64 * kTebibyte, kGranule);
  for (uint64_t at = 0; at < 32 * kTebibyte; at += kNode / 4) bitmap.Set({at, 1});
  const std::unique_ptr<DirtyBitmap> successor = bitmap.Empty();
  successor->Set({40 * kTebibyte, 1});
  const SparseBits::Work before = bitmap.work();
  ASSERT_TRUE(successor->Merge(bitmap).ok());
  EXPECT_EQ(successor->CountBytes(), bitmap.CountBytes() + kGranule);
  EXPECT_EQ(bitmap.work().chunks_cloned, before.chunks_cloned);
  EXPECT_EQ(bitmap.work().chunks_made, before.chunks_made);
}

TEST(SparseBitmap, CopiesOutliveWhatTheyWereMadeOf) {
  auto bitmap = std::make_unique<DirtyBitmap>(kTebibyte, kGranule);
  bitmap->Set({kGranule, 1});
  const std::unique_ptr<DirtyBitmap> copy = bitmap->Copy();
  const std::unique_ptr<DirtyBitmap> successor = copy->Empty();
  ASSERT_TRUE(successor->Merge(*bitmap).ok());
  bitmap = nullptr;
  copy->Set({2 * kGranule, 1});
  EXPECT_EQ(copy->NextDirty(0, kEverything), (Range{kGranule, 2 * kGranule}));
  EXPECT_EQ(successor->NextDirty(0, kEverything), (Range{kGranule, kGranule}));
}

TEST(SparseBitmap, KinThatSetAndClearAtRandomStayApart) {
  constexpr uint64_t kSize = 3 * kChunkBits * 512 + 512 * 7;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::unique_ptr<DirtyBitmap>> kin;
    std::vector<std::vector<bool>> models;
    kin.push_back(std::make_unique<DirtyBitmap>(kSize, 512));
    models.emplace_back(kSize / 512, false);
    for (int move = 0; move < 200; ++move) {
      const size_t at = random() % kin.size();
      const uint64_t begin = random() % (kSize / 512);
      const uint64_t longest = random() % 3 == 0 ? kSize / 512 : 100;
      const uint64_t end = std::min(kSize / 512, begin + random() % longest + 1);
      const auto fill = [&](bool value) {
        std::fill(models[at].begin() + begin, models[at].begin() + end, value);
      };
      switch (random() % 8) {
        case 0:
        case 1:
        case 2:
          kin[at]->Set({begin * 512, (end - begin) * 512});
          fill(true);
          break;
        case 3:
        case 4:
          kin[at]->Clear({begin * 512, (end - begin) * 512});
          fill(false);
          break;
        case 5:
          if (kin.size() < 4) {
            kin.push_back(kin[at]->Copy());
            models.push_back(models[at]);
          } else {
            kin[at] = kin[0]->Copy();
            models[at] = models[0];
          }
          break;
        case 6: {
          const size_t other = random() % kin.size();
          ASSERT_TRUE(kin[at]->Merge(*kin[other]).ok());
          for (size_t i = 0; i < models[at].size(); ++i) {
            models[at][i] = models[at][i] || models[other][i];
          }
          break;
        }
        default:
          if (kin.size() < 4) {
            kin.push_back(kin[at]->Empty());
            models.emplace_back(kSize / 512, false);
          }
      }
      for (size_t i = 0; i < kin.size(); ++i) {
        const uint64_t count = std::count(models[i].begin(), models[i].end(), true);
        ASSERT_EQ(kin[i]->CountBytes(), count * 512) << "seed " << seed << " move " << move;
      }
    }
    for (size_t i = 0; i < kin.size(); ++i) {
      for (uint64_t g = 0; g < kSize / 512; ++g) {
        ASSERT_EQ(kin[i]->IsDirty(g * 512), models[i][g]) << "seed " << seed << " granule " << g;
      }
    }
  }
}

// ---- Other granularities ----

TEST(SparseBitmap, WordsFoldAndUnfoldInGroups) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200; ++i) {
    const uint64_t word = random() & random() & random();
    for (int shift = 0; shift <= 6; ++shift) {
      uint64_t folded = 0;
      uint64_t unfolded = 0;
      for (int bit = 0; bit < 64; ++bit) {
        folded |= (word >> bit & 1) << (bit >> shift);
        unfolded |= (word >> (bit >> shift) & 1) << bit;
      }
      ASSERT_EQ(FoldWord(word, shift), folded) << shift;
      ASSERT_EQ(UnfoldWord(word, shift), unfolded) << shift;
    }
  }
}

TEST(SparseBitmap, MergesEveryGranularityIntoEveryOther) {
  const uint64_t size_bytes = (uint64_t{600} << 20) + 512;
  std::mt19937_64 random(7);
  for (int source_bits = 9; source_bits <= 31; ++source_bits) {
    for (int target_bits = 9; target_bits <= 31; target_bits += source_bits % 2 + 1) {
      SCOPED_TRACE(testing::Message() << source_bits << " into " << target_bits);
      const uint64_t source_granule = uint64_t{1} << source_bits;
      const uint64_t target_granule = uint64_t{1} << target_bits;
      DirtyBitmap source(size_bytes, source_granule);
      DirtyBitmap expected(size_bytes, target_granule);
      DirtyBitmap target(size_bytes, target_granule);
      // Runs long and short, and the last granule.
      for (int i = 0; i < 40; ++i) {
        const uint64_t from = i == 0 ? size_bytes - 1 : random() % size_bytes;
        source.Set({from, random() % (i % 2 == 0 ? source_granule * 3 : size_bytes / 20) + 1});
      }
      target.Set({12345, 1});
      expected.Set({12345, 1});
      for (auto dirty = source.NextDirty(0, kEverything); dirty.has_value();
           dirty = source.NextDirty(dirty->end_bytes(), kEverything)) {
        expected.Set(*dirty);
      }
      ASSERT_TRUE(target.Merge(source).ok());
      ASSERT_EQ(target.Serialize(), expected.Serialize());
      ASSERT_EQ(target.CountBytes(), expected.CountBytes());
      if (target_bits == 9) continue;
      const auto copy = source.CopyWithGranularity(target_granule);
      ASSERT_TRUE(copy.ok());
      (*copy)->Set({12345, 1});
      ASSERT_EQ((*copy)->Serialize(), expected.Serialize());
    }
  }
}

TEST(SparseBitmap, RefusesWhatCannotBeInsteadOfEndingTheProcess) {
  DirtyBitmap bitmap(kLargest, kGranule);
  EXPECT_EQ(bitmap.Resize(kLargest + 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(bitmap.size_bytes(), kLargest);
  EXPECT_EQ(bitmap.Merge(DirtyBitmap(kTebibyte, kGranule)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(bitmap.IsEmpty());
  EXPECT_EQ(bitmap.CopyWithGranularity(4096).status().code(), absl::StatusCode::kResourceExhausted);
  for (const uint64_t wrong : {uint64_t{0}, uint64_t{256}, uint64_t{3000}, uint64_t{1} << 32}) {
    EXPECT_EQ(bitmap.CopyWithGranularity(wrong).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

// ---- Memory from outside ----

TEST(LentBitmap, ReadsWhatStandsThereAndWritesEveryChange) {
  std::vector<uint64_t> words(4, 0);
  words[1] = 5;
  words[3] = ~uint64_t{0};
  {
    DirtyBitmap bitmap(200 * kGranule, kGranule, absl::MakeSpan(words));
    // Bits 200 to 255 stand for nothing, and are taken away.
    EXPECT_EQ(words[3], 0xff);
    EXPECT_EQ(bitmap.CountBytes(), 10 * kGranule);
    EXPECT_EQ(bitmap.NextDirty(0, kEverything), (Range{64 * kGranule, kGranule}));
    bitmap.Set({0, 1});
    EXPECT_EQ(words[0], 1);
    EXPECT_EQ(bitmap.TakeNextDirty(kGranule, kEverything), (Range{64 * kGranule, kGranule}));
    EXPECT_EQ(words[1], 4);
    bitmap.SetAll();
    EXPECT_EQ(words[0], ~uint64_t{0});
    EXPECT_EQ(words[3], 0xff);
    bitmap.ClearAll();
  }
  EXPECT_EQ(words, std::vector<uint64_t>(4, 0));
}

TEST(LentBitmap, GrowsAsFarAsItsMemory) {
  std::vector<uint64_t> words(2, 0);
  DirtyBitmap bitmap(10 * kGranule, kGranule, absl::MakeSpan(words));
  bitmap.SetAll();
  ASSERT_TRUE(bitmap.Resize(128 * kGranule).ok());
  EXPECT_EQ(bitmap.CountBytes(), 10 * kGranule);
  bitmap.Set({127 * kGranule, 1});
  EXPECT_EQ(words[1], uint64_t{1} << 63);
  EXPECT_EQ(bitmap.Resize(129 * kGranule).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(bitmap.size_bytes(), 128 * kGranule);
  ASSERT_TRUE(bitmap.Resize(5 * kGranule).ok());
  EXPECT_EQ(words[0], 0x1f);
  EXPECT_EQ(words[1], 0);
}

TEST(LentBitmap, ActsAsAnyOther) {
  constexpr uint64_t kSize = (2 * kChunkBits + 100) * 512;
  std::vector<uint64_t> words(DirtyBitmap::WordCount(kSize, 512));
  DirtyBitmap lent(kSize, 512, absl::MakeSpan(words));
  DirtyBitmap own(kSize, 512);
  DirtyBitmap other(kSize, 512);
  std::mt19937_64 random(3);
  for (int i = 0; i < 500; ++i) {
    const Range range = {random() % kSize, random() % (i % 10 == 0 ? kSize : 9000) + 1};
    if (i % 50 == 49) {
      other.Set({range.offset_bytes, 40000});
      ASSERT_TRUE(lent.Merge(other).ok());
      ASSERT_TRUE(own.Merge(other).ok());
    } else if (random() % 2 == 0) {
      lent.Set(range);
      own.Set(range);
    } else {
      lent.Clear(range);
      own.Clear(range);
    }
    ASSERT_EQ(lent.Serialize(), own.Serialize());
    ASSERT_EQ(lent.CountBytes(), own.CountBytes());
  }
  const std::string bits = own.Serialize();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(words.data()), bits.size()), bits);
  const std::unique_ptr<DirtyBitmap> copy = lent.Copy();
  lent.ClearAll();
  EXPECT_EQ(copy->Serialize(), bits);
  ASSERT_TRUE(lent.Deserialize(bits).ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(words.data()), bits.size()), bits);
}

// ---- Threads ----

TEST(SparseBitmap, ChunksThatComeAndGoUnderReadersAndMarkersLoseNothing) {
  // Two chunks are filled and emptied all the time, so that their memory changes place; bits of a
  // third stay, and are looked at meanwhile. Copies are made and dropped.
  constexpr uint64_t kKept = 2 * kChunkBits * 512;
  DirtyBitmap bitmap(3 * kChunkBits * 512, 512);
  bitmap.Set({kKept + 512, 512});
  std::atomic<bool> stop = false;
  std::thread filler([&] {
    for (int i = 0; i < 300; ++i) {
      bitmap.Set({0, kKept});
      bitmap.Clear({0, kKept / 2 + 512});
      bitmap.Clear({kKept / 2, kKept / 2});
    }
    stop = true;
  });
  std::thread marker([&] {
    for (uint64_t i = 0; !stop; ++i) {
      bitmap.Set({kKept + (2 + i % 100) * 512, 512});
      bitmap.Set({kKept + 512, 512});
      const absl::optional<Range> taken = bitmap.TakeNextDirty(kKept + 2 * 512, 512);
      ASSERT_EQ(taken, (Range{kKept + (2 + i % 100) * 512, 512}));
    }
  });
  while (!stop) {
    ASSERT_TRUE(bitmap.IsDirty(kKept + 512));
    ASSERT_FALSE(bitmap.IsDirty(kKept));
    ASSERT_EQ(bitmap.NextDirty(kKept, 512), (Range{kKept + 512, 512}));
    const std::unique_ptr<DirtyBitmap> copy = bitmap.Copy();
    ASSERT_TRUE(copy->IsDirty(kKept + 512));
    copy->Set({0, 512});
  }
  filler.join();
  marker.join();
  EXPECT_EQ(bitmap.CountBytes(), 512);
}

}  // namespace
}  // namespace tidemark::bitmap
