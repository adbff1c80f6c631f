// Entries of both widths, bit by bit as the format's document has them.
#include "engine/format/qcow2/l2_entries.h"

#include <array>
#include <initializer_list>
#include <vector>

#include "engine/base/endian.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kHost = 0x12340000;
constexpr Geometry kPlain = {.cluster_bits = 16};
constexpr Geometry kExtended = {.cluster_bits = 16, .extended_l2 = true};

TEST(L2Geometry, ExtendedEntriesHalveWhatATableMaps) {
  EXPECT_EQ(kPlain.l2_entries(), 8192u);
  EXPECT_EQ(kPlain.l2_coverage_bytes(), uint64_t{512} << 20);
  EXPECT_EQ(kPlain.subclusters_per_cluster(), 1u);
  EXPECT_EQ(kPlain.subcluster_bytes(), 65536u);
  EXPECT_EQ(kExtended.l2_entries(), 4096u);
  EXPECT_EQ(kExtended.l2_coverage_bytes(), uint64_t{256} << 20);
  EXPECT_EQ(kExtended.subclusters_per_cluster(), 32u);
  EXPECT_EQ(kExtended.subcluster_bytes(), 2048u);
  EXPECT_EQ(kPlain.L1EntriesFor(uint64_t{1} << 30), 2u);
  EXPECT_EQ(kExtended.L1EntriesFor(uint64_t{1} << 30), 4u);
}

TEST(L2Entries, AreStoredBigEndianSideBySide) {
  for (const Geometry& geometry : {kPlain, kExtended}) {
    const L2Entries entries(geometry, 3);
    std::array<std::byte, 64> table = {};
    const L2Entry entry = entries.Data(kHost);
    entries.Store(table.data(), 2, entry);
    const size_t at = 2 * (geometry.extended_l2 ? 16 : 8);
    EXPECT_EQ(entries.entry_bytes() * 2, at);
    EXPECT_EQ(LoadBigEndian<uint64_t>(table.data() + at), kEntryCopied | kHost);
    EXPECT_EQ(LoadBigEndian<uint64_t>(table.data() + at + 8),
              geometry.extended_l2 ? 0xffffffffu : 0u);
    EXPECT_EQ(entries.Load(table.data(), 2), entry);
    EXPECT_TRUE(entries.Load(table.data(), 1).empty());
    EXPECT_TRUE(entries.Load(table.data(), 3).empty());
  }
}

TEST(L2Entries, SayOfWholeClustersWhatTheyAreMadeFor) {
  for (const Geometry& geometry : {kPlain, kExtended}) {
    const L2Entries entries(geometry, 3);
    const uint32_t all = geometry.subclusters_per_cluster();
    const auto expect = [&](const L2Entry& entry, ClusterContent content) {
      EXPECT_EQ(entries.Describe(entry).content, content);
      EXPECT_EQ(entries.Describe(entry).end, all);
      EXPECT_FALSE(entries.IsMalformed(entry));
    };
    expect({}, ClusterContent::kUnallocated);
    expect(entries.Zero(), ClusterContent::kZero);
    expect(entries.KeptZero(kHost), ClusterContent::kZero);
    expect(entries.Data(kHost), ClusterContent::kData);
    expect(entries.Compressed({kHost + 5, 700}), ClusterContent::kCompressed);
    EXPECT_EQ(entries.Zero().host_offset_bytes(), 0u);
    EXPECT_FALSE(entries.Zero().is_owned());
    EXPECT_EQ(entries.KeptZero(kHost).host_offset_bytes(), kHost);
    EXPECT_TRUE(entries.KeptZero(kHost).is_owned());
    EXPECT_TRUE(entries.Data(kHost).is_owned());
    EXPECT_EQ(entries.Next(entries.Data(kHost)), entries.Data(kHost + 65536));
    EXPECT_EQ(entries.Next(entries.Zero()), entries.Zero());
  }
}

TEST(L2Entries, PlainOnesAreAsTheyEverWere) {
  const L2Entries entries(kPlain, 3);
  EXPECT_EQ(entries.Zero().cluster, 1u);
  EXPECT_EQ(entries.KeptZero(kHost).cluster, 0x8000000012340001u);
  EXPECT_EQ(entries.Data(kHost).cluster, 0x8000000012340000u);
}

TEST(L2Entries, ExtendedOnesTellSubclustersApart) {
  const L2Entries entries(kExtended, 3);
  // 0..3 in their place, 4..7 zeroes, the rest shows the backing disk.
  const L2Entry entry = {kEntryCopied | kHost, 0x000000f00000000f};
  EXPECT_FALSE(entries.IsMalformed(entry));
  EXPECT_EQ(entries.Describe(entry).content, ClusterContent::kData);
  EXPECT_EQ(entries.Describe(entry).end, 4u);
  EXPECT_EQ(entries.Describe(entry, 2).end, 4u);
  EXPECT_EQ(entries.Describe(entry, 4).content, ClusterContent::kZero);
  EXPECT_EQ(entries.Describe(entry, 4).end, 8u);
  EXPECT_EQ(entries.Describe(entry, 8).content, ClusterContent::kUnallocated);
  EXPECT_EQ(entries.Describe(entry, 8).end, 32u);
  // Zeroes and holes need no place.
  EXPECT_FALSE(entries.IsMalformed({0, 0x0000ffff00000000}));
}

TEST(L2Entries, AreAlikeWhileEachFollowsTheOneBefore) {
  for (const Geometry& geometry : {kPlain, kExtended}) {
    const L2Entries entries(geometry, 3);
    const auto count = [&](std::initializer_list<L2Entry> all) {
      std::vector<std::byte> table(all.size() * entries.entry_bytes());
      uint64_t at = 0;
      for (const L2Entry& entry : all) entries.Store(table.data(), at++, entry);
      return entries.CountAlike(table.data(), 0, all.size());
    };
    const L2Entry data = entries.Data(kHost), data1 = entries.Data(kHost + 65536);
    const L2Entry kept = entries.KeptZero(kHost), kept1 = entries.KeptZero(kHost + 65536);
    const L2Entry packed = entries.Compressed({kHost, 700});
    L2Entry shared1 = data1;
    shared1.cluster &= ~kEntryCopied;
    EXPECT_EQ(count({{}, {}, {}}), 3u);
    EXPECT_EQ(count({{}, entries.Zero(), {}}), 1u);
    EXPECT_EQ(count({entries.Zero(), entries.Zero(), {}}), 2u);
    EXPECT_EQ(count({data, data1, entries.Data(kHost + 2 * 65536), data}), 3u);
    EXPECT_EQ(count({data, data}), 1u) << "not adjacent";
    EXPECT_EQ(count({data, shared1}), 1u);
    EXPECT_EQ(count({data, kept1}), 1u);
    EXPECT_EQ(count({kept, kept1, {}}), 2u);
    EXPECT_EQ(count({kept, entries.Zero()}), 1u);
    EXPECT_EQ(count({packed, packed}), 1u);
    EXPECT_EQ(count({data, packed}), 1u);
    EXPECT_EQ(count({{}, packed}), 1u);
  }
}

TEST(L2Entries, ImpossibleOnesAreKnown) {
  const L2Entries plain(kPlain, 3);
  const L2Entries version2(kPlain, 2);
  const L2Entries extended(kExtended, 3);
  EXPECT_TRUE(plain.IsMalformed({kHost | 2, 0}));
  EXPECT_FALSE(plain.IsMalformed({kEntryZero, 0}));
  EXPECT_TRUE(version2.IsMalformed({kEntryZero, 0}));
  // The bit for zeroes is reserved beside subclusters.
  EXPECT_TRUE(extended.IsMalformed({kHost | kEntryZero, 0}));
  // Allocated and zero at once; allocated without a place.
  EXPECT_TRUE(extended.IsMalformed({kHost, 0x0000000100000001}));
  EXPECT_TRUE(extended.IsMalformed({0, 1}));
  // Compressed clusters have no subclusters.
  EXPECT_TRUE(extended.IsMalformed({kEntryCompressed | kHost, 1}));
  EXPECT_FALSE(extended.IsMalformed({kEntryCompressed | kHost, 0}));
}

}  // namespace
}  // namespace tidemark::qcow2
