// Dirty bitmaps: what marks them, every verb, every refusal.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class BitmapScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    operate().CreateDisk("disk0");
  }
};

constexpr auto kNoNode = v1::ERROR_REASON_NODE_NOT_FOUND;
constexpr auto kNoBitmap = v1::ERROR_REASON_BITMAP_NOT_FOUND;
constexpr auto kField = v1::ERROR_REASON_INVALID_FIELD;

TEST_P(BitmapScenarios, ANewBitmapIsCleanAlsoOnAFullDisk) {
  guest().Write(1, {0, kDiskBytes});
  operate().Do(BitmapAdd("disk0", "b0"));
  const v1::BlockDirtyInfo info = operate().Bitmap("disk0", "b0");
  EXPECT_EQ(info.count(), 0);
  EXPECT_EQ(info.granularity(), 65536u);
  EXPECT_TRUE(info.recording());
  EXPECT_FALSE(info.busy());
  EXPECT_FALSE(info.persistent());
  EXPECT_FALSE(info.inconsistent());
}

TEST_P(BitmapScenarios, TheDefaultGranularityFollowsTheClusterSize) {
  operate().CreateDisk("small", kDiskBytes, "cluster_size=512");
  operate().CreateDisk("middle", kDiskBytes, "cluster_size=16k");
  operate().CreateDisk("large", kDiskBytes, "cluster_size=2M");
  operate().Do(Add(NullOptions("none", kDiskBytes)));
  for (const auto& [node, granularity] : std::vector<std::pair<std::string, uint32_t>>{
           {"small", 4096}, {"middle", 16384}, {"large", 65536}, {"none", 65536}}) {
    operate().Do(BitmapAdd(node, "b0"));
    EXPECT_EQ(operate().Bitmap(node, "b0").granularity(), granularity) << node;
  }
}

TEST_P(BitmapScenarios, EveryKindOfWriteMarksWholeGranules) {
  operate().Do(BitmapAdd("disk0", "b0", 4096));
  guest().Write(1, {4095, 2});
  guest().Write(2, {100000, 1});
  guest().Zero({200 * 4096 + 1, 10});
  guest().Trim(Clusters(20, 1));
  EXPECT_EQ(
      operate().Marks("disk0", "b0"),
      Merged({{0, 8192}, Range{100000, 1}.AlignedOut(4096), {200 * 4096, 4096}, Clusters(20, 1)}));
}

TEST_P(BitmapScenarios, TrimMarksNothingWhereItDoesNothing) {
  Image::Create(operate().FileOf("deaf"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("deaf", operate().FileOf("deaf"));
  options.clear_discard();
  operate().Do(Add(options));
  operate().Do(BitmapAdd("deaf", "b0"));
  guest("deaf").Write(1, Clusters(0, 4));
  operate().Do(BitmapClear("deaf", "b0"));
  guest("deaf").Trim(Clusters(0, 4));
  EXPECT_EQ(operate().Bitmap("deaf", "b0").count(), 0);
  EXPECT_THAT(guest("deaf").ReadAll(), HoldsSameAs(ModelOf("deaf")->bytes()));
}

TEST_P(BitmapScenarios, CountIsInBytesAndMayExceedTheDisk) {
  operate().Do(BitmapAdd("disk0", "b0", 1u << 31));
  guest().Write(1, {5, 1});
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), int64_t{1} << 31);
}

TEST_P(BitmapScenarios, ADisabledBitmapRecordsNothing) {
  operate().Do(BitmapAdd("disk0", "b0", absl::nullopt, false, /*disabled=*/true));
  EXPECT_FALSE(operate().Bitmap("disk0", "b0").recording());
  guest().Write(1, Clusters(0, 1));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
  operate().Do(BitmapEnable("disk0", "b0"));
  operate().Do(BitmapEnable("disk0", "b0"));
  guest().Write(1, Clusters(1, 1));
  operate().Do(BitmapDisable("disk0", "b0"));
  operate().Do(BitmapDisable("disk0", "b0"));
  guest().Write(1, Clusters(2, 1));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(1, 1)});
  operate().Do(BitmapClear("disk0", "b0"));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
}

TEST_P(BitmapScenarios, BitmapsAreListedNewestFirst) {
  operate().Do(BitmapAdd("disk0", "first"));
  operate().Do(BitmapAdd("disk0", "second"));
  std::vector<std::string> names;
  for (const auto& info : operate().Bitmaps("disk0")) names.push_back(info.name());
  EXPECT_THAT(names, ElementsAre("second", "first"));
}

TEST_P(BitmapScenarios, NamesMayHoldAnything) {
  for (const std::string& name : {std::string("with space"), std::string("a/b\"c'"),
                                  std::string("größe 漢字"), std::string(1023, 'n')}) {
    operate().Do(BitmapAdd("disk0", name));
    EXPECT_EQ(operate().Bitmap("disk0", name).name(), name);
    operate().Do(BitmapRemove("disk0", name));
  }
}

TEST_P(BitmapScenarios, ANameIsForOneNode) {
  operate().CreateDisk("disk1");
  operate().Do(BitmapAdd("disk0", "b0"));
  operate().Do(BitmapAdd("disk1", "b0"));
  guest("disk1").Write(1, Clusters(0, 2));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
  EXPECT_EQ(operate().Bitmap("disk1", "b0").count(), static_cast<int64_t>(2 * kClusterBytes));
}

TEST_P(BitmapScenarios, RefusedAdditions) {
  operate().Do(BitmapAdd("disk0", "b0"));
  ExpectRefused(BitmapAdd("disk0", "b0"), v1::ERROR_REASON_BITMAP_EXISTS, {"b0"});
  ExpectRefused(BitmapAdd("disk9", "b1"), kNoNode, {"disk9"});
  ExpectRefused(BitmapAdd("disk0", ""), kField, {"name"});
  ExpectRefused(BitmapAdd("disk0", std::string(1024, 'n')), kField, {"name"});
  for (uint32_t granularity : {0u, 511u, 256u, 513u, 65537u, 0x80000001u}) {
    ExpectRefused(BitmapAdd("disk0", "b1", granularity), kField,
                  {"granularity", std::to_string(granularity)});
  }
}

TEST_P(BitmapScenarios, PersistentBitmapsNeedAnImageThatStoresThem) {
  Image::Create(folder().File("flat.raw"), kDiskBytes, "raw");
  operate().Do(Add(RawOptions("flat", folder().File("flat.raw"))));
  ExpectRefused(BitmapAdd("flat", "b0", absl::nullopt, /*persistent=*/true),
                v1::ERROR_REASON_NODE_LACKS_FEATURE, {"flat"});
  operate().CreateDisk("old", kDiskBytes, "compat=0.10");
  ExpectRefused(BitmapAdd("old", "b0", absl::nullopt, /*persistent=*/true),
                v1::ERROR_REASON_NODE_LACKS_FEATURE, {"b0", "old"});
  operate().Do(BitmapAdd("flat", "b0"));
  operate().Do(BitmapAdd("old", "b0"));
}

TEST_P(BitmapScenarios, UnknownBitmapsAndNodesAreRefused) {
  operate().Do(BitmapAdd("disk0", "b0"));
  ExpectRefused(BitmapRemove("disk0", "b9"), kNoBitmap, {"b9"});
  ExpectRefused(BitmapClear("disk0", "b9"), kNoBitmap, {"b9"});
  ExpectRefused(BitmapEnable("disk0", "b9"), kNoBitmap, {"b9"});
  ExpectRefused(BitmapDisable("disk0", "b9"), kNoBitmap, {"b9"});
  ExpectRefused(BitmapMerge("disk0", "b9", {"b0"}), kNoBitmap, {"b9"});
  ExpectRefused(BitmapSha256("disk0", "b9"), kNoBitmap, {"b9"});
  ExpectRefused(BitmapRemove("disk9", "b0"), kNoNode, {"disk9"});
  ExpectRefused(BitmapClear("disk9", "b0"), kNoNode, {"disk9"});
  ExpectRefused(BitmapEnable("disk9", "b0"), kNoNode, {"disk9"});
  ExpectRefused(BitmapDisable("disk9", "b0"), kNoNode, {"disk9"});
  ExpectRefused(BitmapMerge("disk9", "b0", {"b0"}), kNoNode, {"disk9"});
  ExpectRefused(BitmapSha256("disk9", "b0"), kNoNode, {"disk9"});
}

TEST_P(BitmapScenarios, MergeAddsTheMarksOfEverySource) {
  operate().Do(BitmapAdd("disk0", "a"));
  guest().Write(1, Clusters(1, 1));
  operate().Do(BitmapAdd("disk0", "b"));
  guest().Write(1, Clusters(5, 1));
  operate().Do(BitmapDisable("disk0", "a"));
  operate().Do(BitmapDisable("disk0", "b"));
  operate().Do(BitmapAdd("disk0", "sum", absl::nullopt, false, /*disabled=*/true));
  operate().Do(BitmapMerge("disk0", "sum", {"a", "b"}));
  EXPECT_EQ(operate().Marks("disk0", "sum"), Merged({Clusters(1, 1), Clusters(5, 1)}));
  EXPECT_EQ(operate().Marks("disk0", "b"), Ranges{Clusters(5, 1)}) << "sources stay as they are";
  operate().Do(BitmapMerge("disk0", "sum", {"sum"}));
  EXPECT_EQ(operate().Marks("disk0", "sum"), Merged({Clusters(1, 1), Clusters(5, 1)}));
}

TEST_P(BitmapScenarios, MergeCrossesGranularities) {
  operate().Do(BitmapAdd("disk0", "fine", 4096));
  operate().Do(BitmapAdd("disk0", "coarse", 262144));
  guest().Write(1, {kMiB + 8192, 1});
  operate().Do(BitmapAdd("disk0", "to-coarse", 131072, false, true));
  operate().Do(BitmapAdd("disk0", "to-fine", 65536, false, true));
  operate().Do(BitmapMerge("disk0", "to-coarse", {"fine"}));
  operate().Do(BitmapMerge("disk0", "to-fine", {"coarse"}));
  EXPECT_EQ(operate().Marks("disk0", "to-coarse"), (Ranges{{kMiB, 131072}}));
  EXPECT_EQ(operate().Marks("disk0", "to-fine"), (Ranges{{kMiB, 262144}}));
}

TEST_P(BitmapScenarios, MergeCrossesNodes) {
  operate().CreateDisk("disk1");
  operate().Do(BitmapAdd("disk0", "here"));
  operate().Do(BitmapAdd("disk1", "there"));
  guest("disk1").Write(1, Clusters(9, 2));
  operate().Do(BitmapMerge("disk0", "here", {"disk1:there"}));
  EXPECT_EQ(operate().Marks("disk0", "here"), Ranges{Clusters(9, 2)});
}

TEST_P(BitmapScenarios, ARefusedMergeChangesNothing) {
  operate().Do(BitmapAdd("disk0", "a"));
  operate().Do(BitmapAdd("disk0", "b", absl::nullopt, false, /*disabled=*/true));
  guest().Write(1, Clusters(1, 1));
  operate().CreateDisk("disk1", kDiskBytes * 2);
  operate().Do(BitmapAdd("disk1", "there"));
  ExpectRefused(BitmapMerge("disk0", "b", {"a", "b9"}), kNoBitmap, {"b9"});
  ExpectRefused(BitmapMerge("disk0", "b", {"a", "disk9:b"}), kNoNode, {"disk9"});
  ExpectRefused(BitmapMerge("disk0", "b", {"a", "disk1:there"}), v1::ERROR_REASON_SIZE_MISMATCH,
                {std::to_string(kDiskBytes), std::to_string(kDiskBytes * 2)});
  ExpectRefused(BitmapMerge("disk0", "b", {}), kField, {"bitmaps"});
}

TEST_P(BitmapScenarios, ABitmapBelowAnOverlayIsNotMarkedByWritesAbove) {
  operate().CreateDisk("base");
  operate().Do(BitmapAdd("base", "b0"));
  Image::Create(operate().FileOf("top"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("top", operate().FileOf("top"));
  options.mutable_qcow2()->mutable_backing()->set_reference("base");
  operate().Do(Add(options));
  guest("top").Write(1, Clusters(0, 4));
  EXPECT_EQ(operate().Bitmap("base", "b0").count(), 0);
}

TEST_P(BitmapScenarios, ResizeResizesBitmaps) {
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(0, 1));
  guest().Write(1, Clusters(100, 4));
  Unplug();
  operate().Do(Resize("disk0", 2 * kDiskBytes));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(0, 1), Clusters(100, 4)}));
  operate().Do(Resize("disk0", 102 * kClusterBytes));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(0, 1), Clusters(100, 2)}));
  operate().Do(Resize("disk0", kDiskBytes));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(0, 1), Clusters(100, 2)}))
      << "what was cut off and grown again is clean";
}

TEST_P(BitmapScenarios, AnExportedBitmapIsBusyAndStillRecords) {
  operate().Do(BitmapAdd("disk0", "b0"));
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", /*writable=*/true, {"b0"}, "with-bitmap"));
  guest().Write(1, Clusters(0, 1));
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").busy());
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(kClusterBytes));
  ExpectRefused(BitmapClear("disk0", "b0"), v1::ERROR_REASON_BITMAP_BUSY, {"b0"});
  operate().RemoveExport("e0");
  EXPECT_FALSE(operate().Bitmap("disk0", "b0").busy());
  operate().Do(BitmapClear("disk0", "b0"));
}

TEST_P(BitmapScenarios, EqualMarksGiveEqualHashes) {
  operate().Do(BitmapAdd("disk0", "a"));
  operate().Do(BitmapAdd("disk0", "b"));
  const std::string empty = operate().Sha256("disk0", "a");
  EXPECT_THAT(empty, ::testing::MatchesRegex("[0-9a-f]{64}"));
  guest().Write(1, Clusters(3, 2));
  EXPECT_NE(operate().Sha256("disk0", "a"), empty);
  EXPECT_EQ(operate().Sha256("disk0", "a"), operate().Sha256("disk0", "b"));
  operate().Do(BitmapClear("disk0", "a"));
  EXPECT_EQ(operate().Sha256("disk0", "a"), empty);
}

ON_EVERY_BACKEND(BitmapScenarios);

}  // namespace
}  // namespace tidemark::test
