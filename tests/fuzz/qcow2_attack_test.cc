// Qcow2 images damaged with intent, each in one way that has broken other readers.
#include <functional>

#include "engine/base/endian.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/golden.h"
#include "gtest/gtest.h"
#include "tests/fuzz/qcow2_exercise.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

struct Attack {
  std::string name;
  std::function<void(MemoryStorage&, const Header&)> change;
  // Whether Open must refuse; if not, an answer is as good as an error.
  bool must_be_refused = true;
};

uint64_t FirstL2Table(MemoryStorage& file, const Header& header) {
  const std::string entry = file.Contents({header.l1_offset_bytes, 8});
  return LoadBigEndian<uint64_t>(entry.data()) & kEntryOffsetMask;
}

Attack Field32(std::string name, size_t field, uint32_t value, bool must_be_refused = true) {
  return {std::move(name), [=](MemoryStorage& file, const Header&) { Store32(file, field, value); },
          must_be_refused};
}

Attack Field64(std::string name, size_t field, uint64_t value, bool must_be_refused = true) {
  return {std::move(name), [=](MemoryStorage& file, const Header&) { Store64(file, field, value); },
          must_be_refused};
}

std::vector<Attack> AttacksOnTheHeader() {
  namespace field = header_field;
  return {
      Field32("ClusterBits0", field::kClusterBits, 0),
      Field32("ClusterBits8", field::kClusterBits, 8),
      Field32("ClusterBits22", field::kClusterBits, 22),
      Field32("ClusterBits63", field::kClusterBits, 63),
      Field32("ClusterBitsAll", field::kClusterBits, ~0u),
      Field32("RefcountOrder7", field::kRefcountOrder, 7),
      Field32("RefcountOrderAll", field::kRefcountOrder, ~0u),
      Field32("Version1", field::kVersion, 1),
      Field32("Version4", field::kVersion, 4),
      Field32("HeaderLength0", field::kHeaderLength, 0),
      Field32("HeaderLength103", field::kHeaderLength, 103),
      Field32("HeaderLengthPastTheCluster", field::kHeaderLength, 1 << 21),
      Field32("HeaderLengthAll", field::kHeaderLength, ~0u),
      Field64("SizePastTheTable", field::kSize, ~uint64_t{0}),
      Field64("SizeHuge", field::kSize, uint64_t{1} << 62),
      Field32("L1EntriesHuge", field::kL1Entries, ~0u),
      Field32("L1EntriesTooFew", field::kL1Entries, 0),
      Field64("L1AtTheHeader", field::kL1TableOffset, 0),
      Field64("L1Unaligned", field::kL1TableOffset, 513),
      Field64("L1AtTheEnd", field::kL1TableOffset, ~uint64_t{0} - 65535),
      Field64("L1PastAllOffsets", field::kL1TableOffset, uint64_t{1} << 56),
      Field64("RefcountTableAtTheHeader", field::kRefcountTableOffset, 0),
      Field64("RefcountTableUnaligned", field::kRefcountTableOffset, 1000),
      Field64("RefcountTableAtTheEnd", field::kRefcountTableOffset, ~uint64_t{0} - 65535),
      Field32("RefcountTableEmpty", field::kRefcountTableClusters, 0),
      Field32("RefcountTableHuge", field::kRefcountTableClusters, ~0u),
      Field32("BackingNameHuge", field::kBackingFileSize, 1u << 31, false),
      Field32("SnapshotsAll", field::kSnapshotCount, ~0u),
      Field32("Snapshots65536", field::kSnapshotCount, 65536, false),
      Field64("SnapshotsAtTheHeader", field::kSnapshotsOffset, 0, false),
      Field64("SnapshotsAtTheEndOfOffsets", field::kSnapshotsOffset, ~uint64_t{0} - 65535, false),
      Field64("IncompatibleFeaturesAll", field::kIncompatibleFeatures, ~uint64_t{0}),
      Field32("Encrypted", field::kCryptMethod, 1),
      {"BackingName2GiB",
       [](MemoryStorage& file, const Header&) {
         Store64(file, field::kBackingFileOffset, 512);
         Store32(file, field::kBackingFileSize, 1u << 31);
       }},
      {"BackingNameAtTheEndOfOffsets",
       [](MemoryStorage& file, const Header&) {
         Store64(file, field::kBackingFileOffset, ~uint64_t{0} - 4);
         Store32(file, field::kBackingFileSize, 100);
       }},
      {"ExtensionLongerThanTheCluster",
       [](MemoryStorage& file, const Header&) {
         Store32(file, field::kVersion3Length, 0x12345678);
         Store32(file, field::kVersion3Length + 4, ~0u);
       }},
      {"ExtensionLengthWraps",
       [](MemoryStorage& file, const Header&) {
         Store32(file, field::kVersion3Length, 0x12345678);
         Store32(file, field::kVersion3Length + 4, ~0u - 6);
       }},
      {"ManyEmptyExtensions",
       [](MemoryStorage& file, const Header& header) {
         for (uint64_t at = field::kVersion3Length; at < header.geometry.cluster_bytes(); at += 8) {
           Store64(file, at, uint64_t{0x12345678} << 32);
         }
       },
       false},
      {"CutToHalfAHeader",
       [](MemoryStorage& file, const Header&) { ASSERT_TRUE(file.Resize(50).ok()); }},
      {"Empty", [](MemoryStorage& file, const Header&) { ASSERT_TRUE(file.Resize(0).ok()); }},
      {"CutToTheHeader",
       [](MemoryStorage& file, const Header& header) {
         ASSERT_TRUE(file.Resize(header.geometry.cluster_bytes()).ok());
       },
       false},
  };
}

std::vector<Attack> AttacksOnTables() {
  return {
      {"L2IsTheL1Table",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.l1_offset_bytes, header.l1_offset_bytes | kEntryCopied);
       },
       false},
      {"L2IsTheHeader",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.l1_offset_bytes, kEntryCopied);
       },
       false},
      {"L2IsTheRefcountTable",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.l1_offset_bytes, header.refcount_table_offset_bytes | kEntryCopied);
       },
       false},
      {"L2AtTheEndOfOffsets",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.l1_offset_bytes, kEntryOffsetMask | kEntryCopied);
       },
       false},
      {"L2PointsToItself",
       [](MemoryStorage& file, const Header& header) {
         const uint64_t table = FirstL2Table(file, header);
         for (uint64_t index = 0; index < header.geometry.l2_entries(); ++index) {
           Store64(file, table + index * 8, table | kEntryCopied);
         }
       },
       false},
      {"DataIsAllMetadata",
       [](MemoryStorage& file, const Header& header) {
         const uint64_t table = FirstL2Table(file, header);
         for (uint64_t index = 0; index < header.geometry.l2_entries(); ++index) {
           const uint64_t cluster = index % (file.size_bytes() >> header.geometry.cluster_bits);
           Store64(file, table + index * 8, cluster << header.geometry.cluster_bits | kEntryCopied);
         }
       },
       false},
      {"AllCompressedIntoTheLastBytes",
       [](MemoryStorage& file, const Header& header) {
         const uint64_t table = FirstL2Table(file, header);
         for (uint64_t index = 0; index < header.geometry.l2_entries(); ++index) {
           Store64(file, table + index * 8, ~kEntryCopied - index);
         }
       },
       false},
      {"RefcountBlockIsTheTable",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.refcount_table_offset_bytes, header.refcount_table_offset_bytes);
       },
       false},
      {"RefcountBlockIsTheHeader",
       [](MemoryStorage& file, const Header& header) {
         const uint64_t clusters = header.refcount_table_clusters;
         for (uint64_t at = 8; at < clusters << header.geometry.cluster_bits; at += 8) {
           Store64(file, header.refcount_table_offset_bytes + at, 0);
         }
         Store64(file, header.refcount_table_offset_bytes, header.geometry.cluster_bytes());
       },
       false},
      {"AllRefcountBlocksAreOne",
       [](MemoryStorage& file, const Header& header) {
         const std::string first = file.Contents({header.refcount_table_offset_bytes, 8});
         const uint64_t block = LoadBigEndian<uint64_t>(first.data());
         const uint64_t clusters = header.refcount_table_clusters;
         for (uint64_t at = 0; at < clusters << header.geometry.cluster_bits; at += 8) {
           Store64(file, header.refcount_table_offset_bytes + at, block);
         }
       },
       false},
      {"RefcountBlockAtTheEndOfOffsets",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header.refcount_table_offset_bytes, kRefcountTableOffsetMask);
       },
       false},
      {"RefcountTableIsTheL1Table",
       [](MemoryStorage& file, const Header& header) {
         Store64(file, header_field::kRefcountTableOffset, header.l1_offset_bytes);
       },
       false},
      {"AllRefcountsAreZero",
       [](MemoryStorage& file, const Header& header) {
         const std::string first = file.Contents({header.refcount_table_offset_bytes, 8});
         ASSERT_TRUE(
             file.WriteZeroes(
                     {LoadBigEndian<uint64_t>(first.data()), header.geometry.cluster_bytes()}, {})
                 .ok());
       },
       false},
  };
}

class Attacked : public testing::TestWithParam<Attack> {};

TEST_P(Attacked, GivesAnAnswerOrAnError) {
  for (const char* name : {"cluster-512", "refcount-1", "snapshots", "bitmaps"}) {
    SCOPED_TRACE(name);
    const auto file = LoadGolden(name);
    const Header header = *ReadHeader(*file);
    GetParam().change(*file, header);
    if (GetParam().must_be_refused) {
      EXPECT_FALSE(Image::Open(file->Copy(), {.read_only = true}).ok());
    }
    EXPECT_TRUE(Exercise(*file, 1).ok());
    // Once more with refcounts that must be rebuilt before writing.
    if (file->size_bytes() < header_field::kVersion3LengthMin) continue;
    Store64(*file, header_field::kIncompatibleFeatures, incompatible_feature::kDirty);
    EXPECT_TRUE(Exercise(*file, 1).ok());
  }
}

const auto kNameOfAttack = [](const testing::TestParamInfo<Attack>& info) {
  return info.param.name;
};
INSTANTIATE_TEST_SUITE_P(Header, Attacked, testing::ValuesIn(AttacksOnTheHeader()), kNameOfAttack);
INSTANTIATE_TEST_SUITE_P(Tables, Attacked, testing::ValuesIn(AttacksOnTables()), kNameOfAttack);

}  // namespace
}  // namespace tidemark::qcow2
