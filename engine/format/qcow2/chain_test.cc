// What a long backing chain costs: each question goes down once, so that what is asked of a level
// is counted in extents and not in all the ways to it.

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/placeable_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::Extent;
using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;

storage::Bytes AsBytes(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

// What has been asked of all levels together, and how much may be.
struct Tally {
  std::atomic<uint64_t> looks = 0;
  uint64_t looks_max = ~uint64_t{0};
  std::atomic<uint64_t> sizes = 0;
};

// Stands between two levels. Fails what is beyond the limit, so that what would not end does.
class CountingStorage final : public storage::ForwardingStorage {
 public:
  CountingStorage(std::shared_ptr<storage::Storage> next, Tally* tally)
      : ForwardingStorage(std::move(next)), tally_(*tally) {}

  uint64_t size_bytes() const override {
    ++tally_.sizes;
    return ForwardingStorage::size_bytes();
  }
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    return Exhausted() ? absl::ResourceExhaustedError("looks") : next().Read(offset_bytes, buffer);
  }
  absl::StatusOr<Extent> Map(Range range) override {
    if (Exhausted()) return absl::ResourceExhaustedError("looks");
    return next().Map(range);
  }
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override {
    if (Exhausted()) return absl::ResourceExhaustedError("looks");
    return next().PlaceRead(range);
  }

 private:
  bool Exhausted() { return ++tally_.looks > tally_.looks_max; }

  Tally& tally_;
};

// A base and overlays over it, with what each level is given kept in a string too.
class Chain {
 public:
  Chain(uint64_t disk_bytes, int overlay_count) : model_(disk_bytes, '\0') {
    for (int i = 0; i <= overlay_count; ++i) AddLevel(disk_bytes);
  }

  void Write(int level, Range range, char filler) {
    const std::string data(range.length_bytes, filler);
    ASSERT_EQ(levels_[level]->Write(range.offset_bytes,
                                    {reinterpret_cast<const std::byte*>(data.data()), data.size()}),
              absl::OkStatus());
  }
  void WriteModel(Range range, char filler) {
    model_.replace(range.offset_bytes, range.length_bytes, range.length_bytes, filler);
  }

  Image& top() { return *levels_.back(); }
  Image& level(int number) { return *levels_[number]; }
  int depth() const { return static_cast<int>(levels_.size()); }
  const std::string& model() const { return model_; }

  // Every extent of the disk as the top tells it.
  std::vector<Extent> Walk() {
    std::vector<Extent> extents;
    for (uint64_t at = 0; at < model_.size();) {
      const absl::StatusOr<Extent> extent = top().Map(Range::FromTo(at, model_.size()));
      EXPECT_EQ(extent.status(), absl::OkStatus());
      if (!extent.ok()) break;
      EXPECT_EQ(extent->range.offset_bytes, at);
      at = extent->range.end_bytes();
      extents.push_back(*extent);
    }
    return extents;
  }

  Tally tally;

 private:
  void AddLevel(uint64_t disk_bytes) {
    auto file = std::make_shared<MemoryStorage>(0);
    CreateOptions options;
    options.size_bytes = disk_bytes;
    options.cluster_size_bytes = kCluster;
    ASSERT_EQ(Create(*file, options), absl::OkStatus());
    auto image = Image::Open(std::make_shared<storage::PlaceableStorage>(file), {});
    ASSERT_EQ(image.status(), absl::OkStatus());
    std::shared_ptr<Image> level = *std::move(image);
    if (!levels_.empty()) {
      level->SetBacking(std::make_shared<CountingStorage>(levels_.back(), &tally));
    }
    levels_.push_back(std::move(level));
  }

  std::vector<std::shared_ptr<Image>> levels_;
  std::string model_;
};

class LongChain : public testing::TestWithParam<int> {
 protected:
  int overlay_count() const { return GetParam(); }
};

// Three clusters of data below everything: seven extents.
void PutThreeClusters(Chain& chain) {
  for (const uint64_t cluster : {3, 7, 11}) {
    const Range range = {cluster * kCluster, kCluster};
    chain.Write(0, range, 'b');
    chain.WriteModel(range, 'b');
  }
}

TEST_P(LongChain, IsMappedWithOneLookPerLevelAndExtent) {
  Chain chain(16 * kCluster, overlay_count());
  PutThreeClusters(chain);
  chain.tally.looks_max = 7 * overlay_count();
  const std::vector<Extent> extents = chain.Walk();
  ASSERT_EQ(extents.size(), 7u);
  for (size_t i = 0; i < extents.size(); ++i) {
    const bool is_data = i % 2 == 1;
    EXPECT_EQ(extents[i].content, is_data ? Extent::Content::kData : Extent::Content::kZero);
    EXPECT_EQ(extents[i].depth, is_data ? overlay_count() + 1 : 0);
  }
  EXPECT_LE(chain.tally.looks, chain.tally.looks_max);
}

TEST_P(LongChain, IsMappedWithoutAskingAgainHowLongEachLevelIs) {
  Chain chain(16 * kCluster, overlay_count());
  PutThreeClusters(chain);
  chain.tally.sizes = 0;
  EXPECT_EQ(chain.Walk().size(), 7u);
  EXPECT_LE(chain.tally.sizes, static_cast<uint64_t>(overlay_count()));
  chain.tally.sizes = 0;
  EXPECT_EQ(chain.Walk().size(), 7u);
  EXPECT_EQ(chain.tally.sizes, 0u);
}

TEST_P(LongChain, IsReadAndPlacedWithOneLookPerLevel) {
  Chain chain(16 * kCluster, overlay_count());
  PutThreeClusters(chain);
  // Nothing above the base cuts the request.
  chain.tally.looks_max = overlay_count();
  std::string text(16 * kCluster, '?');
  ASSERT_EQ(chain.top().Read(0, AsBytes(text)), absl::OkStatus());
  EXPECT_TRUE(text == chain.model());
  chain.tally.looks = 0;
  const auto placement = chain.top().PlaceRead({0, 16 * kCluster});
  ASSERT_EQ(placement.status(), absl::OkStatus());
  ASSERT_NE(*placement, nullptr);
  EXPECT_EQ((*placement)->pieces().size(), 7u);
}

TEST_P(LongChain, WithDataAtEveryLevelCostsItsExtentsTimesItsDepth) {
  constexpr uint64_t kClusters = 256;
  Chain chain(kClusters * kCluster, overlay_count());
  std::mt19937_64 random(overlay_count());
  std::vector<int> level_of(kClusters, -1);
  for (int level = 0; level < chain.depth(); ++level) {
    const Range range = {random() % kClusters * kCluster, kCluster};
    const char filler = static_cast<char>('a' + level % 26);
    chain.Write(level, range, filler);
    chain.WriteModel(range, filler);
    level_of[range.offset_bytes / kCluster] = level;
  }
  chain.tally.looks_max = kClusters * chain.depth();
  for (const Extent& extent : chain.Walk()) {
    for (uint64_t at = extent.range.offset_bytes; at < extent.range.end_bytes(); at += kCluster) {
      const int level = level_of[at / kCluster];
      ASSERT_EQ(extent.depth, level < 0 ? 0 : chain.depth() - level);
      ASSERT_EQ(extent.content == Extent::Content::kData, level >= 0);
    }
  }
  EXPECT_LE(chain.tally.looks, chain.tally.looks_max);
  chain.tally.looks = 0;
  std::string text(chain.model().size(), '?');
  ASSERT_EQ(chain.top().Read(0, AsBytes(text)), absl::OkStatus());
  EXPECT_TRUE(text == chain.model());
  EXPECT_LE(chain.tally.looks, chain.tally.looks_max);
}

INSTANTIATE_TEST_SUITE_P(Overlays, LongChain, testing::Values(1, 20, 60, 180),
                         [](const auto& info) { return absl::StrCat(info.param); });

// An image of its own is still told in long stretches, however its clusters lie in the file.
TEST(Chain, AFragmentedImageIsOneExtent) {
  Chain chain(64 * kCluster, 0);
  for (uint64_t cluster = 0; cluster < 64; cluster += 2) {
    chain.Write(0, {cluster * kCluster, kCluster}, 'x');
  }
  for (uint64_t cluster = 1; cluster < 64; cluster += 2) {
    chain.Write(0, {cluster * kCluster, kCluster}, 'y');
  }
  EXPECT_EQ(chain.Walk().size(), 1u);
}

}  // namespace
}  // namespace tidemark::qcow2
