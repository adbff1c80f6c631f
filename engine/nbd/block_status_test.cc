// Block status: the answers against a model of one value per unit of the disk, and as libnbd and
// the contexts of QEMU see them.
#include "engine/nbd/block_status.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/nbd/protocol.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kUnit = 65536;
constexpr uint64_t kUnits = 64;
constexpr uint64_t kDiskBytes = kUnit * kUnits;

// A disk whose units lie in layers as told: 0 nowhere, 1 here, 2 below, and so on.
class LayeredStorage final : public storage::ForwardingStorage {
 public:
  LayeredStorage()
      : ForwardingStorage(std::make_shared<storage::MemoryStorage>(kDiskBytes)),
        depths_(kUnits, 0) {}

  absl::StatusOr<storage::Extent> Map(Range range) override {
    if (!status_.ok()) return status_;
    const uint64_t unit = range.offset_bytes / kUnit;
    storage::Extent extent;
    extent.range = range.Intersect({unit * kUnit, kUnit});  // Never more than one unit at a time.
    extent.depth = depths_[unit];
    extent.hole = depths_[unit] == 0;
    extent.content =
        extent.hole ? storage::Extent::Content::kZero : storage::Extent::Content::kData;
    return extent;
  }

  std::vector<int> depths_;
  absl::Status status_;
};

class BlockStatusTest : public testing::Test {
 protected:
  BlockStatusTest() {
    exported_.name = "disk";
    exported_.storage = layered_;
    exported_.allocation_depth = true;
    exported_.bitmaps = {{"b", bitmap_}};
  }

  absl::StatusOr<std::vector<StatusExtent>> Ask(const Context& context, Range range,
                                                size_t extents_max) {
    const auto stays = [] { return false; };
    ClientPresence client(stays);
    return StatusOf(exported_, context, range, extents_max, client);
  }
  // What `extents` say unit by unit, for a range of whole units.
  static std::vector<uint32_t> ByUnit(const std::vector<StatusExtent>& extents) {
    std::vector<uint32_t> units;
    for (const StatusExtent& extent : extents) {
      EXPECT_EQ(extent.length_bytes % kUnit, 0u);
      units.insert(units.end(), extent.length_bytes / kUnit, extent.flags);
    }
    return units;
  }
  uint32_t Model(Context::Kind kind, uint64_t unit) const {
    switch (kind) {
      case Context::Kind::kAllocation:
        return layered_->depths_[unit] == 0 ? 3 : 0;
      case Context::Kind::kDepth:
        return static_cast<uint32_t>(layered_->depths_[unit]);
      default:
        return bitmap_->IsDirty(unit * kUnit) ? 1 : 0;
    }
  }

  const std::shared_ptr<LayeredStorage> layered_ = std::make_shared<LayeredStorage>();
  const std::shared_ptr<bitmap::DirtyBitmap> bitmap_ =
      std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, kUnit);
  Export exported_;
};

TEST_F(BlockStatusTest, EveryContextSaysWhatTheModelSays) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const uint32_t layers = 1 + random() % 4;
    for (int& depth : layered_->depths_) depth = static_cast<int>(random() % layers);
    bitmap_->ClearAll();
    for (uint64_t unit = 0; unit < kUnits; ++unit) {
      if (random() % 2 == 0) bitmap_->Set({unit * kUnit, 1});
    }
    const uint64_t first = random() % kUnits;
    const uint64_t count = 1 + random() % (kUnits - first);
    const size_t extents_max = 1 + random() % 20;
    for (const Context& context : AllContexts(exported_)) {
      const auto extents = Ask(context, {first * kUnit, count * kUnit}, extents_max);
      ASSERT_TRUE(extents.ok()) << extents.status();
      ASSERT_LE(extents->size(), extents_max);
      for (size_t i = 1; i < extents->size(); ++i) {
        EXPECT_NE((*extents)[i].flags, (*extents)[i - 1].flags) << "neighbours are joined";
      }
      const std::vector<uint32_t> units = ByUnit(*extents);
      ASSERT_FALSE(units.empty());
      if (extents->size() < extents_max) {
        EXPECT_EQ(units.size(), count) << "complete if there is room";
      }
      for (size_t i = 0; i < units.size(); ++i) {
        ASSERT_EQ(units[i], Model(context.kind, first + i)) << "round " << round << " unit " << i;
      }
    }
  }
}

TEST_F(BlockStatusTest, RangesNeedNotBeAligned) {
  bitmap_->Set({2 * kUnit, kUnit});
  const Context context = AllContexts(exported_)[2];
  const auto extents = Ask(context, {2 * kUnit - 10, kUnit + 15}, 9);
  ASSERT_TRUE(extents.ok());
  ASSERT_EQ(extents->size(), 3u);
  EXPECT_EQ((*extents)[0].length_bytes, 10u);
  EXPECT_EQ((*extents)[1].length_bytes, kUnit);
  EXPECT_EQ((*extents)[1].flags, kStateDirty);
  EXPECT_EQ((*extents)[2].length_bytes, 5u);
  const auto inside = Ask(context, {2 * kUnit + 7, 100}, 9);
  ASSERT_TRUE(inside.ok());
  ASSERT_EQ(inside->size(), 1u);
  EXPECT_EQ((*inside)[0].flags, kStateDirty);
}

TEST_F(BlockStatusTest, AnErrorOfTheStorageIsTheAnswer) {
  layered_->status_ = absl::DataLossError("table gone");
  EXPECT_FALSE(Ask(AllContexts(exported_)[0], {0, kUnit}, 9).ok());
  EXPECT_TRUE(Ask(AllContexts(exported_)[2], {0, kUnit}, 9).ok()) << "a bitmap needs no storage";
}

class BlockStatusOverTheWire : public BlockStatusTest {
 protected:
  BlockStatusOverTheWire() {
    Server::Options options;
    options.address = address_;
    server_ = *Server::Start(options);
    EXPECT_TRUE(server_->AddExport(exported_).ok());
  }
  void Connect(std::vector<std::string> contexts) {
    Guest::Wishes wishes;
    wishes.export_name = "disk";
    wishes.contexts = std::move(contexts);
    ASSERT_EQ(guest_.Connect(address_, wishes), 0) << guest_.error();
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  std::unique_ptr<Server> server_;
  Guest guest_;
};

TEST_F(BlockStatusOverTheWire, OneRequestAnswersForEveryContext) {
  layered_->depths_ = std::vector<int>(kUnits, 1);
  layered_->depths_[1] = 0;
  layered_->depths_[2] = 3;
  bitmap_->Set({0, 2 * kUnit});
  Connect({"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b"});
  using Extents = Guest::Extents;
  EXPECT_EQ(guest_.Status("base:allocation", 0, 4 * kUnit),
            (Extents{{kUnit, 0}, {kUnit, 3}, {2 * kUnit, 0}}));
  EXPECT_EQ(guest_.Status("qemu:allocation-depth", 0, 4 * kUnit),
            (Extents{{kUnit, 1}, {kUnit, 0}, {kUnit, 3}, {kUnit, 1}}));
  EXPECT_EQ(guest_.Status("qemu:dirty-bitmap:b", 0, 4 * kUnit),
            (Extents{{2 * kUnit, 1}, {2 * kUnit, 0}}));
}

TEST_F(BlockStatusOverTheWire, ReqOneGivesOneExtentPerContextNoLongerThanAskedFor) {
  bitmap_->Set({0, 3 * kUnit});
  Connect({"base:allocation", "qemu:dirty-bitmap:b"});
  const uint32_t flag = LIBNBD_CMD_FLAG_REQ_ONE;
  EXPECT_EQ(guest_.Status("base:allocation", 0, 4 * kUnit, flag), (Guest::Extents{{4 * kUnit, 3}}));
  EXPECT_EQ(guest_.Status("qemu:dirty-bitmap:b", 0, 4 * kUnit, flag),
            (Guest::Extents{{3 * kUnit, 1}}));
  EXPECT_EQ(guest_.Status("qemu:dirty-bitmap:b", 0, 100, flag), (Guest::Extents{{100, 1}}));
}

TEST_F(BlockStatusOverTheWire, BadRequestsAreRefused) {
  Connect({"base:allocation"});
  EXPECT_EQ(guest_.TryStatus(0, 0), EINVAL);
  EXPECT_EQ(guest_.TryStatus(kDiskBytes - 1, 2), EINVAL);
  layered_->status_ = absl::DataLossError("table gone");
  EXPECT_EQ(guest_.TryStatus(0, kUnit), EIO);
  layered_->status_ = absl::OkStatus();
  EXPECT_EQ(guest_.TryStatus(0, kUnit), 0);
}

}  // namespace
}  // namespace tidemark::nbd
