#include "engine/copy/extent_walk.h"

#include <algorithm>
#include <map>
#include <memory>

#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using ::testing::ElementsAre;
using Holds = Stretch::Holds;
using Content = storage::Extent::Content;

constexpr uint64_t kCluster = 64 * 1024;

// A disk of which every byte range says what a test has painted there.
class PaintedStorage final : public storage::ForwardingStorage {
 public:
  explicit PaintedStorage(uint64_t size_bytes)
      : ForwardingStorage(std::make_shared<storage::MemoryStorage>(size_bytes)) {
    paint_[0] = {.content = Content::kZero, .depth = 0};
  }
  void Paint(Range range, Content content, int depth) {
    const auto after = std::prev(paint_.upper_bound(range.end_bytes()))->second;
    paint_.erase(paint_.lower_bound(range.offset_bytes), paint_.lower_bound(range.end_bytes()));
    paint_.emplace(range.end_bytes(), after);
    paint_[range.offset_bytes] = {.content = content, .depth = depth};
  }
  absl::StatusOr<storage::Extent> Map(Range range) override {
    const auto next = paint_.upper_bound(range.offset_bytes);
    storage::Extent extent = std::prev(next)->second;
    const uint64_t end =
        std::min(range.end_bytes(), next == paint_.end() ? range.end_bytes() : next->first);
    extent.range = Range::FromTo(range.offset_bytes, end);
    return extent;
  }

 private:
  std::map<uint64_t, storage::Extent> paint_;
};

TEST(WalkExtents, JoinsWholeClustersOfOneKind) {
  PaintedStorage disk(8 * kCluster);
  disk.Paint({0, 2 * kCluster}, Content::kData, 1);
  disk.Paint({2 * kCluster, kCluster}, Content::kData, 2);
  EXPECT_THAT(*WalkExtents(&disk, {0, 8 * kCluster}, kCluster, false),
              ElementsAre(Stretch{{0, 3 * kCluster}, Holds::kData},
                          Stretch{{3 * kCluster, 5 * kCluster}, Holds::kZero}));
}

TEST(WalkExtents, AClusterWithAByteOfDataIsData) {
  PaintedStorage disk(8 * kCluster);
  disk.Paint({3 * kCluster + 100, 1}, Content::kData, 1);
  EXPECT_THAT(*WalkExtents(&disk, {0, 8 * kCluster}, kCluster, false),
              ElementsAre(Stretch{{0, 3 * kCluster}, Holds::kZero},
                          Stretch{{3 * kCluster, kCluster}, Holds::kData},
                          Stretch{{4 * kCluster, 4 * kCluster}, Holds::kZero}));
}

TEST(WalkExtents, DataAcrossABoundaryMakesBothClustersData) {
  PaintedStorage disk(4 * kCluster);
  disk.Paint({2 * kCluster - 1, 2}, Content::kData, 1);
  EXPECT_THAT(*WalkExtents(&disk, {0, 4 * kCluster}, kCluster, false),
              ElementsAre(Stretch{{0, kCluster}, Holds::kZero},
                          Stretch{{kCluster, 2 * kCluster}, Holds::kData},
                          Stretch{{3 * kCluster, kCluster}, Holds::kZero}));
}

TEST(WalkExtents, LowerLayersAreSkippedOnlyIfAskedFor) {
  PaintedStorage disk(4 * kCluster);
  disk.Paint({0, kCluster}, Content::kData, 1);
  disk.Paint({kCluster, kCluster}, Content::kData, 2);
  disk.Paint({2 * kCluster, kCluster}, Content::kZero, 1);
  disk.Paint({3 * kCluster, kCluster}, Content::kZero, 0);
  EXPECT_THAT(
      *WalkExtents(&disk, {0, 4 * kCluster}, kCluster, true),
      ElementsAre(Stretch{{0, kCluster}, Holds::kData}, Stretch{{kCluster, kCluster}, Holds::kSkip},
                  Stretch{{2 * kCluster, kCluster}, Holds::kZero},
                  Stretch{{3 * kCluster, kCluster}, Holds::kSkip}));
}

TEST(WalkExtents, AClusterHeldInPartByTheTopIsCopiedWhole) {
  PaintedStorage disk(2 * kCluster);
  disk.Paint({0, 2 * kCluster}, Content::kData, 2);
  disk.Paint({4096, 4096}, Content::kZero, 1);
  EXPECT_THAT(*WalkExtents(&disk, {0, 2 * kCluster}, kCluster, true),
              ElementsAre(Stretch{{0, kCluster}, Holds::kData},
                          Stretch{{kCluster, kCluster}, Holds::kSkip}));
}

TEST(WalkExtents, TheLastClusterMayBePartial) {
  PaintedStorage disk(kCluster + 512);
  disk.Paint({kCluster + 511, 1}, Content::kData, 1);
  EXPECT_THAT(
      *WalkExtents(&disk, {0, kCluster + 512}, kCluster, false),
      ElementsAre(Stretch{{0, kCluster}, Holds::kZero}, Stretch{{kCluster, 512}, Holds::kData}));
}

// Every way to paint three clusters in quarters, against a model that looks at each quarter.
TEST(WalkExtents, AgreesWithASimpleModelForEveryPattern) {
  constexpr uint64_t kQuarter = kCluster / 4;
  constexpr int kQuarters = 12;
  for (uint32_t pattern = 0; pattern < (1u << kQuarters); ++pattern) {
    PaintedStorage disk(3 * kCluster);
    for (int i = 0; i < kQuarters; ++i) {
      disk.Paint({i * kQuarter, kQuarter}, (pattern >> i & 1) ? Content::kData : Content::kZero, 1);
    }
    std::vector<Stretch> expected;
    for (uint64_t cluster = 0; cluster < 3; ++cluster) {
      const bool data = (pattern >> (4 * cluster) & 0xf) != 0;
      const Holds holds = data ? Holds::kData : Holds::kZero;
      if (!expected.empty() && expected.back().holds == holds) {
        expected.back().range.length_bytes += kCluster;
      } else {
        expected.push_back({{cluster * kCluster, kCluster}, holds});
      }
    }
    ASSERT_EQ(*WalkExtents(&disk, {0, 3 * kCluster}, kCluster, false), expected) << pattern;
  }
}

}  // namespace
}  // namespace tidemark::copy
