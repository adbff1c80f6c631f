#include "engine/format/qcow2/check.h"

#include <unistd.h>

#include <random>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/endian.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

uint64_t Load64(MemoryStorage& file, uint64_t offset_bytes) {
  const std::string bytes = file.Contents({offset_bytes, 8});
  return LoadBigEndian<uint64_t>(bytes.data());
}

void Store64(MemoryStorage& file, uint64_t offset_bytes, uint64_t value) {
  std::byte bytes[8];
  StoreBigEndian(bytes, value);
  ASSERT_TRUE(file.Write(offset_bytes, bytes, {}).ok());
}

// The number after `key` in the JSON that qemu-img prints; 0 if it is not there.
uint64_t NumberIn(const std::string& json, const std::string& key) {
  const size_t found = json.find(absl::StrCat("\"", key, "\": "));
  if (found == std::string::npos) return 0;
  const size_t begin = found + key.size() + 4;
  uint64_t number = 0;
  EXPECT_TRUE(
      absl::SimpleAtoi(json.substr(begin, json.find_first_of(",\n", begin) - begin), &number));
  return number;
}

TEST(Check, FindsInGoldenImagesWhatQemuFinds) {
  for (const GoldenImage& image : GoldenImages()) {
    SCOPED_TRACE(image.name);
    const auto result = Check(*LoadGolden(image.name));
    if (!image.opens) {
      // Whatever keeps the image from being opened: the header, or the bitmap directory.
      EXPECT_TRUE(!result.ok() || result->corruptions > 0);
      continue;
    }
    ASSERT_EQ(result.status(), absl::OkStatus());
    EXPECT_EQ(result->corruptions, image.corruptions) << absl::StrJoin(result->findings, "\n");
    EXPECT_EQ(result->leaks, image.leaks) << absl::StrJoin(result->findings, "\n");
    EXPECT_EQ(result->findings.empty(), result->clean());
  }
}

// The image as a file; qemu-img check's own figures as JSON. Empty if QEMU cannot open it.
std::string JudgeByQemu(const MemoryStorage& file) {
  const std::string path = TemporaryPath("judged.qcow2");
  SaveFile(file, path);
  const ToolResult result = RunTool({"qemu-img", "check", "--output=json", "-f", "qcow2", path});
  unlink(path.c_str());
  const size_t begin = result.output.find("{\n");
  return begin == std::string::npos ? "" : result.output.substr(begin);
}

TEST(Check, CountsClustersAsQemuDoes) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  for (const char* name : {"v2", "cluster-512", "refcount-64", "compressed-zlib", "snapshots",
                           "bitmaps", "preallocated", "backing-base"}) {
    SCOPED_TRACE(name);
    const auto file = LoadGolden(name);
    const auto result = Check(*file);
    ASSERT_EQ(result.status(), absl::OkStatus());
    const std::string judged = JudgeByQemu(*file);
    EXPECT_EQ(result->total_clusters, NumberIn(judged, "total-clusters"));
    EXPECT_EQ(result->allocated_clusters, NumberIn(judged, "allocated-clusters"));
    EXPECT_EQ(result->compressed_clusters, NumberIn(judged, "compressed-clusters"));
    EXPECT_EQ(result->fragmented_clusters, NumberIn(judged, "fragmented-clusters"));
    EXPECT_EQ(result->image_end_offset_bytes, NumberIn(judged, "image-end-offset"));
  }
}

TEST(Check, AgreesWithQemuOnDamagedRefcountsAndTables) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  std::mt19937 random(11);
  for (const char* name : {"v2", "cluster-512", "refcount-1", "refcount-8", "refcount-64",
                           "compressed-zstd", "snapshots", "bitmaps-small-clusters"}) {
    const auto original = LoadGolden(name);
    const Header header = *ReadHeader(*original);
    const uint64_t refcount_block = Load64(*original, header.refcount_table_offset_bytes);
    uint64_t l2_table = 0;
    for (uint32_t index = 0; l2_table == 0; ++index) {
      ASSERT_LT(index, header.l1_entries);
      l2_table = Load64(*original, header.l1_offset_bytes + index * 8) & kEntryOffsetMask;
    }
    for (int round = 0; round < 8; ++round) {
      const auto file = original->Copy();
      for (int change = 0; change < 2; ++change) {
        const uint64_t clusters = file->size_bytes() >> header.geometry.cluster_bits;
        if (random() % 2 == 0) {
          std::vector<std::byte> block(header.geometry.cluster_bytes());
          ASSERT_TRUE(file->Read(refcount_block, absl::MakeSpan(block)).ok());
          const uint64_t cluster =
              random() % std::min(clusters, header.geometry.refcounts_per_block());
          StoreRefcount(block.data(), cluster, header.geometry.refcount_order,
                        random() % (header.geometry.refcount_bits() == 1 ? 2 : 3));
          ASSERT_TRUE(file->Write(refcount_block, block, {}).ok());
        } else {
          const uint64_t target = (1 + random() % clusters) << header.geometry.cluster_bits;
          Store64(*file, l2_table + random() % 8 * 8, target | (random() % 2 ? kEntryCopied : 0));
        }
      }
      const auto result = Check(*file);
      ASSERT_EQ(result.status(), absl::OkStatus());
      const std::string judged = JudgeByQemu(*file);
      ASSERT_NE(judged, "");
      EXPECT_EQ(result->corruptions, NumberIn(judged, "corruptions"))
          << name << " " << round << "\n"
          << judged << absl::StrJoin(result->findings, "\n");
      EXPECT_EQ(result->leaks, NumberIn(judged, "leaks"))
          << name << " " << round << "\n"
          << judged << absl::StrJoin(result->findings, "\n");
    }
  }
}

TEST(Check, ReadsAnL2TableOnceHoweverOftenItIsReferredTo) {
  CreateOptions options;
  options.size_bytes = uint64_t{64} << 30;
  options.cluster_size_bytes = 512;
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_TRUE(Create(*file, options).ok());
  const Header header = *ReadHeader(*file);
  // Two million L1 entries, all of them for the same table, which refers to itself.
  const uint64_t l2_table = file->size_bytes();
  ASSERT_TRUE(file->Resize(l2_table + 512).ok());
  std::vector<std::byte> l1(header.l1_entries * size_t{8});
  for (size_t at = 0; at < l1.size(); at += 8) StoreBigEndian(l1.data() + at, l2_table);
  ASSERT_TRUE(file->Write(header.l1_offset_bytes, l1, {}).ok());
  for (int index = 0; index < 64; ++index) Store64(*file, l2_table + index * 8, l2_table);
  const auto result = Check(*file);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_FALSE(result->clean());
}

TEST(Check, IsNotDrawnOutByASparseFile) {
  CreateOptions options;
  options.size_bytes = 1 << 20;
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_TRUE(Create(*file, options).ok());
  ASSERT_TRUE(file->Resize(uint64_t{1} << 55).ok());
  const auto result = Check(*file);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_TRUE(result->clean());
}

TEST(Check, NamesTheFirstFindingsAndCountsAll) {
  const auto file = LoadGolden("lazy-dirty");
  const Header header = *ReadHeader(*file);
  const auto result = Check(*file);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_EQ(result->findings.size(), result->corruptions);
  EXPECT_THAT(result->findings, testing::Contains(testing::HasSubstr("refcount is 0")));
}

}  // namespace
}  // namespace tidemark::qcow2
