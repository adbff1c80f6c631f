#include "engine/bitmap/dirty_bitmap.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "engine/bitmap/limits.h"
#include "gtest/gtest.h"

namespace tidemark::bitmap {
namespace {

constexpr uint64_t kEverything = ~uint64_t{0};

// The same set of granules, one by one.
class Model {
 public:
  Model(uint64_t size_bytes, uint64_t granularity_bytes)
      : size_bytes_(size_bytes), granularity_bytes_(granularity_bytes) {}

  void Set(Range range) {
    for (uint64_t g : Touched(range)) dirty_.insert(g);
  }
  void Clear(Range range) {
    for (uint64_t g : Touched(range)) dirty_.erase(g);
  }
  void Resize(uint64_t size_bytes) {
    size_bytes_ = size_bytes;
    while (!dirty_.empty() && *dirty_.rbegin() * granularity_bytes_ >= size_bytes) {
      dirty_.erase(std::prev(dirty_.end()));
    }
  }
  bool IsDirty(uint64_t byte) const { return dirty_.count(byte / granularity_bytes_) != 0; }
  uint64_t CountBytes() const { return dirty_.size() * granularity_bytes_; }

  absl::optional<Range> NextDirty(uint64_t from_bytes, uint64_t length_bytes_max) const {
    const auto first = dirty_.lower_bound(from_bytes / granularity_bytes_);
    if (first == dirty_.end() || from_bytes >= size_bytes_ || length_bytes_max == 0) {
      return absl::nullopt;
    }
    uint64_t end = *first;
    for (auto it = first; it != dirty_.end() && *it == end; ++it) ++end;
    const uint64_t begin_bytes = std::max(from_bytes, *first * granularity_bytes_);
    uint64_t end_bytes = std::min(end * granularity_bytes_, size_bytes_);
    if (end_bytes - begin_bytes > length_bytes_max) end_bytes = begin_bytes + length_bytes_max;
    return Range::FromTo(begin_bytes, end_bytes);
  }
  uint64_t NextClean(uint64_t from_bytes) const {
    while (from_bytes < size_bytes_ && IsDirty(from_bytes)) {
      from_bytes = (from_bytes / granularity_bytes_ + 1) * granularity_bytes_;
    }
    return std::min(from_bytes, size_bytes_);
  }
  std::string Serialize() const {
    const uint64_t count = (size_bytes_ + granularity_bytes_ - 1) / granularity_bytes_;
    std::string bits((count + 7) / 8, '\0');
    for (uint64_t g : dirty_) bits[g / 8] |= static_cast<char>(1 << (g % 8));
    return bits;
  }
  const std::set<uint64_t>& dirty() const { return dirty_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  std::vector<uint64_t> Touched(Range range) const {
    std::vector<uint64_t> touched;
    if (range.empty() || range.offset_bytes >= size_bytes_) return touched;
    const uint64_t length_bytes = std::min(range.length_bytes, size_bytes_ - range.offset_bytes);
    for (uint64_t g = range.offset_bytes / granularity_bytes_;
         g * granularity_bytes_ < range.offset_bytes + length_bytes; ++g) {
      touched.push_back(g);
    }
    return touched;
  }

  uint64_t size_bytes_;
  uint64_t granularity_bytes_;
  std::set<uint64_t> dirty_;
};

struct Geometry {
  const char* name;
  uint64_t size_bytes;
  uint64_t granularity_bytes;
};

class DirtyBitmapModel : public testing::TestWithParam<Geometry> {
 protected:
  void SetUp() override {
    bitmap_ = std::make_unique<DirtyBitmap>(size_bytes(), granularity_bytes());
    model_ = std::make_unique<Model>(size_bytes(), granularity_bytes());
  }
  uint64_t size_bytes() const { return GetParam().size_bytes; }
  uint64_t granularity_bytes() const { return GetParam().granularity_bytes; }

  Range PickRange() {
    const uint64_t offset_bytes = random_() % (model_->size_bytes() + granularity_bytes());
    switch (random_() % 4) {
      case 0:
        return {offset_bytes, 1};
      case 1:
        return {offset_bytes, random_() % (3 * granularity_bytes()) + 1};
      case 2:  // From the very first byte of a granule to the last of one.
        return Range{offset_bytes, random_() % (100 * granularity_bytes())}.AlignedOut(
            granularity_bytes());
      default:  // To the end and past it.
        return {offset_bytes, kEverything};
    }
  }

  void CheckEqual() {
    ASSERT_EQ(bitmap_->Serialize(), model_->Serialize());
    ASSERT_EQ(bitmap_->CountBytes(), model_->CountBytes());
    ASSERT_EQ(bitmap_->IsEmpty(), model_->dirty().empty());
    ASSERT_EQ(bitmap_->size_bytes(), model_->size_bytes());
  }

  void Move() {
    switch (random_() % 12) {
      case 0: {
        const Range range = PickRange();
        bitmap_->Clear(range);
        model_->Clear(range);
        break;
      }
      case 1: {
        const uint64_t from_bytes = random_() % (model_->size_bytes() + 2);
        ASSERT_EQ(bitmap_->NextClean(from_bytes), model_->NextClean(from_bytes));
        ASSERT_EQ(bitmap_->IsDirty(from_bytes),
                  from_bytes < model_->size_bytes() && model_->IsDirty(from_bytes));
        break;
      }
      case 2: {
        const uint64_t from_bytes = random_() % (model_->size_bytes() + 2);
        const uint64_t max_bytes =
            random_() % 4 == 0 ? kEverything : random_() % (9 * granularity_bytes());
        ASSERT_EQ(bitmap_->NextDirty(from_bytes, max_bytes),
                  model_->NextDirty(from_bytes, max_bytes));
        break;
      }
      case 3: {
        const uint64_t granules = random_() % 70 + 1;
        const uint64_t from_bytes =
            random_() % (model_->size_bytes() + 1) / granularity_bytes() * granularity_bytes();
        const auto expected = model_->NextDirty(from_bytes, granules * granularity_bytes());
        ASSERT_EQ(bitmap_->TakeNextDirty(from_bytes, granules * granularity_bytes()), expected);
        if (expected.has_value()) model_->Clear(*expected);
        break;
      }
      case 4:
        if (random_() % 8 == 0) {
          const uint64_t new_bytes = random_() % (2 * size_bytes());
          ASSERT_EQ(bitmap_->Resize(new_bytes), absl::OkStatus());
          model_->Resize(new_bytes);
        }
        break;
      case 5:
        if (random_() % 8 == 0) {
          bitmap_->ClearAll();
          model_->Clear({0, kEverything});
        }
        break;
      case 6:
        if (random_() % 8 == 0) {
          bitmap_->SetAll();
          model_->Set({0, kEverything});
        }
        break;
      default: {
        const Range range = PickRange();
        bitmap_->Set(range);
        model_->Set(range);
      }
    }
  }

  std::mt19937_64 random_;
  std::unique_ptr<DirtyBitmap> bitmap_;
  std::unique_ptr<Model> model_;
};

TEST_P(DirtyBitmapModel, AgreesWithASetOfGranules) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SetUp();
    random_.seed(seed);
    for (int move = 0; move < 300; ++move) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " move " << move);
      Move();
      CheckEqual();
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(DirtyBitmapModel, PiecesOfTheSerialisationPutTogetherAreTheWhole) {
  random_.seed(3);
  for (int i = 0; i < 20; ++i) bitmap_->Set(PickRange().Intersect({0, size_bytes()}));
  bitmap_->Clear({0, granularity_bytes()});
  const std::string whole = bitmap_->Serialize();
  EXPECT_EQ(whole.size(), bitmap_->SerializedLength());
  for (const uint64_t piece_bytes : {1, 3, 8, 13, 4096}) {
    std::string together;
    DirtyBitmap copy(size_bytes(), granularity_bytes());
    copy.SetAll();
    for (uint64_t at = 0; at < whole.size(); at += piece_bytes) {
      const std::string piece = bitmap_->SerializePart(at, piece_bytes);
      together += piece;
      ASSERT_EQ(copy.DeserializePart(at, piece), absl::OkStatus());
    }
    EXPECT_EQ(together, whole);
    EXPECT_EQ(copy.Serialize(), whole);
    EXPECT_EQ(copy.CountBytes(), bitmap_->CountBytes());
  }
}

TEST_P(DirtyBitmapModel, DeserializeReplacesAndIgnoresBitsPastTheEnd) {
  bitmap_->SetAll();
  const std::string none(bitmap_->SerializedLength(), '\0');
  ASSERT_EQ(bitmap_->Deserialize(none), absl::OkStatus());
  EXPECT_TRUE(bitmap_->IsEmpty());
  const std::string all(bitmap_->SerializedLength(), '\xff');
  ASSERT_EQ(bitmap_->Deserialize(all), absl::OkStatus());
  model_->Set({0, kEverything});
  CheckEqual();
}

INSTANTIATE_TEST_SUITE_P(Geometries, DirtyBitmapModel,
                         testing::Values(Geometry{"OneGranule", 1000, 65536},
                                         Geometry{"SixtyFourGranules", 64 * 512, 512},
                                         Geometry{"SixtyFiveGranules", 65 * 512, 512},
                                         Geometry{"RaggedEnd", 100 * 4096 + 17, 4096},
                                         Geometry{"ManyWords", 5000 * 65536 - 1, 65536},
                                         Geometry{"Huge", (uint64_t{1} << 40) + 512, 1u << 31}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(DirtyBitmap, RefusesSerialisationsOfTheWrongLengthAndKeepsItsBits) {
  DirtyBitmap bitmap(100 * 512, 512);
  bitmap.Set({0, 1});
  for (const size_t length : {0, 12, 14}) {
    EXPECT_EQ(bitmap.Deserialize(std::string(length, '\xff')).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(bitmap.DeserializePart(12, std::string(2, '\xff')).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bitmap.DeserializePart(kEverything, std::string(2, '\xff')).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bitmap.CountBytes(), 512u);
}

TEST(DirtyBitmap, CountsMoreThanTheDiskHolds) {
  DirtyBitmap bitmap(1000, 65536);
  bitmap.Set({999, 1});
  EXPECT_EQ(bitmap.CountBytes(), 65536u);
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), (Range{0, 1000}));
}

TEST(DirtyBitmap, OfAnEmptyDiskHasNoGranules) {
  DirtyBitmap bitmap(0, 65536);
  bitmap.Set({0, 100});
  bitmap.SetAll();
  EXPECT_TRUE(bitmap.IsEmpty());
  EXPECT_EQ(bitmap.NextDirty(0, 1), absl::nullopt);
  EXPECT_EQ(bitmap.NextClean(0), 0u);
  EXPECT_EQ(bitmap.Serialize(), "");
}

TEST(DirtyBitmap, MergesAcrossGranularities) {
  for (const uint64_t source_bytes : {512, 4096, 65536}) {
    for (const uint64_t target_bytes : {512, 4096, 65536}) {
      const uint64_t size_bytes = 1024 * 1024 + 512;
      DirtyBitmap source(size_bytes, source_bytes);
      DirtyBitmap target(size_bytes, target_bytes);
      Model model(size_bytes, target_bytes);
      std::mt19937_64 random(source_bytes + target_bytes);
      target.Set({65536, 1});
      model.Set({65536, 1});
      for (int i = 0; i < 20; ++i) {
        const uint64_t granule = random() % (size_bytes / source_bytes + 1);
        const Range range = Range{granule * source_bytes, source_bytes}.Intersect({0, size_bytes});
        source.Set(range);
        model.Set(range);
      }
      const std::string before = source.Serialize();
      ASSERT_EQ(target.Merge(source), absl::OkStatus());
      EXPECT_EQ(target.Serialize(), model.Serialize());
      EXPECT_EQ(target.CountBytes(), model.CountBytes());
      EXPECT_EQ(source.Serialize(), before);
    }
  }
}

TEST(DirtyBitmap, MergesWithItself) {
  DirtyBitmap bitmap(1 << 20, 512);
  bitmap.Set({1000, 5000});
  const std::string before = bitmap.Serialize();
  ASSERT_EQ(bitmap.Merge(bitmap), absl::OkStatus());
  EXPECT_EQ(bitmap.Serialize(), before);
}

TEST(DirtyBitmap, ShrinkingForgetsAndGrowingBackIsClean) {
  DirtyBitmap bitmap(100 * 512, 512);
  bitmap.SetAll();
  ASSERT_EQ(bitmap.Resize(10 * 512), absl::OkStatus());
  EXPECT_EQ(bitmap.CountBytes(), 10u * 512);
  ASSERT_EQ(bitmap.Resize(1000 * 512), absl::OkStatus());
  EXPECT_EQ(bitmap.CountBytes(), 10u * 512);
  EXPECT_EQ(bitmap.NextClean(0), 10u * 512);
}

TEST(DirtyBitmap, ScansADiskOfSixteenTebibytes) {
  const uint64_t size_bytes = uint64_t{16} << 40;
  DirtyBitmap bitmap(size_bytes, 65536);
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), absl::nullopt);
  bitmap.Set({size_bytes - 1, 1});
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), (Range{size_bytes - 65536, 65536}));
  bitmap.SetAll();
  EXPECT_EQ(bitmap.CountBytes(), size_bytes);
  EXPECT_EQ(bitmap.NextClean(0), size_bytes);
}

// The digests were taken from qemu-storage-daemon 7.2 (x-debug-block-dirty-bitmap-sha256) after the
// same writes.
TEST(DirtyBitmap, HasTheDigestsOfQemu) {
  struct Vector {
    uint64_t size_bytes;
    uint64_t granularity_bytes;
    std::vector<Range> writes;
    const char* sha256;
  };
  std::vector<Range> every_tenth;
  for (uint64_t i = 0; i < 200; ++i) every_tenth.push_back({i * 40960, 512});
  const Vector vectors[] = {
      {0, 65536, {}, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"},
      {1 << 20, 65536, {}, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"},
      {1 << 20,
       65536,
       {{0, 512}, {131072, 65536}},
       "f13ee6ed54ea2aae9fc49a9faeb5da6e8ddef0e12ed5d30d35a624ae813e0485"},
      {64 * 65536,
       65536,
       {{63 * 65536, 512}},
       "e6ad6c9a3a3b7658c35bacf6553fcb8ffe34387534a648fe18f875b8f7a86ddb"},
      {65 * 65536,
       65536,
       {{64 * 65536, 512}},
       "9d34149fbd1fe777eb238799054c8cbfbce372255f219f8740838def9bfd02db"},
      {100 * 65536 + 512,
       65536,
       {{100 * 65536, 512}, {0, 1 << 20}},
       "f18a6fc71889a9a6190bfd891554d1d5e532a7519aa08cfbda723b6d00a6c8b7"},
      {512 * 1000,
       512,
       {{512 * 999, 512}, {512 * 7, 512 * 130}},
       "e71e8ad2d5a644e38b89b8200e5d7ff769fdc86b5821acf6704251a4dfa583d6"},
      {1 << 30,
       uint64_t{1} << 31,
       {{5 * 512, 512}},
       "7c9fa136d4413fa6173637e883b6998d32e1d675f88cddff9dcbcf331820f4b8"},
      {10 << 20, 4096, every_tenth,
       "fd832dfbbca8e9e05df659cbbbe614effda3f6aee87412c85135cd8357bf5969"},
  };
  for (const Vector& vector : vectors) {
    DirtyBitmap bitmap(vector.size_bytes, vector.granularity_bytes);
    for (Range write : vector.writes) bitmap.Set(write);
    EXPECT_EQ(bitmap.Sha256(), vector.sha256)
        << vector.size_bytes << " by " << vector.granularity_bytes;
  }
}

TEST(DirtyBitmap, ThreadsThatMarkAndClaimLoseAndDoubleNothing) {
  constexpr uint64_t kGranules = 1000;
  constexpr uint64_t kMarksPerThread = 20000;
  DirtyBitmap bitmap(kGranules * 512, 512);
  // Each mark raises the granule's version before, as a guest writes data; each claim notes the
  // version it saw after. At the end every granule must have been claimed at its last version.
  std::vector<std::atomic<uint64_t>> versions(kGranules);
  std::vector<std::atomic<uint64_t>> copied(kGranules);
  std::atomic<int> markers_running = 2;
  const auto mark = [&](uint64_t seed) {
    std::mt19937_64 random(seed);
    for (uint64_t i = 0; i < kMarksPerThread; ++i) {
      const uint64_t granule = random() % kGranules;
      versions[granule].fetch_add(1, std::memory_order_relaxed);
      bitmap.Set({granule * 512 + random() % 512, 1});
    }
    markers_running.fetch_sub(1);
  };
  const auto claim = [&] {
    for (;;) {
      const bool last_round = markers_running == 0;
      uint64_t at = 0;
      while (const absl::optional<Range> range = bitmap.TakeNextDirty(at, 8 * 512)) {
        for (uint64_t g = range->offset_bytes / 512; g < range->end_bytes() / 512; ++g) {
          const uint64_t version = versions[g].load(std::memory_order_relaxed);
          uint64_t before = copied[g];
          while (before < version && !copied[g].compare_exchange_weak(before, version)) {
          }
        }
        at = range->end_bytes();
      }
      if (last_round) break;
    }
  };
  std::thread first_marker(mark, 1);
  std::thread second_marker(mark, 2);
  std::thread first_claimer(claim);
  std::thread second_claimer(claim);
  for (std::thread* thread : {&first_marker, &second_marker, &first_claimer, &second_claimer}) {
    thread->join();
  }
  EXPECT_TRUE(bitmap.IsEmpty());
  EXPECT_EQ(bitmap.NextDirty(0, kEverything), absl::nullopt);
  for (uint64_t g = 0; g < kGranules; ++g) EXPECT_EQ(copied[g], versions[g]) << "granule " << g;
}

TEST(DirtyBitmap, GranulesThatThreadsMarkAtTheSameTimeAreCountedOnce) {
  constexpr uint64_t kGranules = 4096;
  constexpr int kRounds = 200;
  DirtyBitmap bitmap(kGranules * 512, 512);
  int wrong_rounds = 0;
  std::barrier start(2);
  std::barrier end(2, [&]() noexcept {
    if (bitmap.CountBytes() != kGranules * 512) ++wrong_rounds;
    bitmap.ClearAll();
    if (!bitmap.IsEmpty()) ++wrong_rounds;
  });
  const auto mark = [&] {
    for (int round = 0; round < kRounds; ++round) {
      start.arrive_and_wait();
      for (uint64_t g = 0; g < kGranules; ++g) bitmap.Set({g * 512, 1});
      end.arrive_and_wait();
    }
  };
  std::thread other(mark);
  mark();
  other.join();
  EXPECT_EQ(wrong_rounds, 0);
}

TEST(DirtyBitmap, QueriesGoOnDuringAResize) {
  DirtyBitmap bitmap(512, 512);
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop) {
      EXPECT_LE(bitmap.CountBytes(), uint64_t{5000} * 512);
      bitmap.NextDirty(0, kEverything);
      bitmap.Serialize();
    }
  });
  for (uint64_t granules = 1; granules < 5000; granules += 7) {
    ASSERT_EQ(bitmap.Resize(granules * 512), absl::OkStatus());
    bitmap.Set({(granules - 1) * 512, 1});
  }
  stop = true;
  reader.join();
  EXPECT_EQ(bitmap.CountBytes(), (5000 / 7 + 1) * 512u);
}

using DirtyBitmapDeathTest = testing::Test;

TEST_F(DirtyBitmapDeathTest, ChecksItsGranularity) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(DirtyBitmap(1000, 1000), "CHECK failed");
  EXPECT_DEATH(DirtyBitmap(1000, 256), "CHECK failed");
  EXPECT_DEATH(DirtyBitmap((kGranuleCountMax + 1) * 512, 512), "CHECK failed");
  EXPECT_DEATH(DirtyBitmap(65 * 512, 512, absl::Span<uint64_t>(std::vector<uint64_t>(1).data(), 1)),
               "CHECK failed");
}

}  // namespace
}  // namespace tidemark::bitmap
