// Images that QEMU made, through our eyes.
#include "engine/format/qcow2/testing/golden.h"

#include "absl/strings/string_view.h"
#include "engine/base/endian.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/info.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Where `huge` holds something: its guest's view is that of these clusters.
constexpr uint64_t kHugeOffsets[] = {0, uint64_t{1} << 30, (uint64_t{1} << 49) + 65536,
                                     (uint64_t{1} << 50) - 65536};

std::string Read(Image& image, Range range) {
  std::string bytes(range.length_bytes, '\xee');
  EXPECT_EQ(
      image.Read(range.offset_bytes, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()}),
      absl::OkStatus());
  return bytes;
}

std::string DigestOfContents(Image& image, absl::string_view name) {
  if (name != "huge") return Sha256(Read(image, {0, image.size_bytes()}));
  std::string contents;
  for (uint64_t offset_bytes : kHugeOffsets) {
    contents += Read(image, {offset_bytes, 65536});
  }
  return Sha256(contents);
}

std::unique_ptr<Image> OpenGolden(absl::string_view name, bool read_only) {
  auto image = Image::Open(LoadGolden(name), {.read_only = read_only});
  EXPECT_EQ(image.status(), absl::OkStatus()) << name;
  if (!image.ok()) return nullptr;
  if (name == "backing-top") {
    (*image)->SetBacking(OpenGolden("backing-base", /*read_only=*/true));
  }
  return *std::move(image);
}

TEST(Golden, ImagesReadAsQemuReadsThem) {
  for (const GoldenImage& golden : GoldenImages()) {
    if (!golden.opens) continue;
    SCOPED_TRACE(golden.name);
    const auto image = OpenGolden(golden.name, /*read_only=*/true);
    ASSERT_NE(image, nullptr);
    EXPECT_EQ(image->size_bytes(), golden.virtual_bytes);
    EXPECT_EQ(DigestOfContents(*image, golden.name), golden.contents_sha256);
  }
}

TEST(Golden, ReadingInOddPiecesMakesNoDifference) {
  for (const GoldenImage& golden : GoldenImages()) {
    if (!golden.opens || golden.name == "huge") continue;
    SCOPED_TRACE(golden.name);
    const auto image = OpenGolden(golden.name, /*read_only=*/true);
    ASSERT_NE(image, nullptr);
    std::string contents;
    for (uint64_t at = 0, piece = 1; at < golden.virtual_bytes; at += piece) {
      piece = std::min(golden.virtual_bytes - at, (at * 7919 + 13) % 30011 + 1);
      contents += Read(*image, {at, piece});
    }
    EXPECT_EQ(Sha256(contents), golden.contents_sha256);
  }
}

TEST(Golden, MapAnswersForEveryByteAndCallsOnlyZeroesZero) {
  for (const GoldenImage& golden : GoldenImages()) {
    if (!golden.opens) continue;
    SCOPED_TRACE(golden.name);
    const auto image = OpenGolden(golden.name, /*read_only=*/true);
    ASSERT_NE(image, nullptr);
    int extents = 0;
    for (uint64_t at = 0; at < golden.virtual_bytes; ++extents) {
      const auto extent = image->Map({at, golden.virtual_bytes - at});
      ASSERT_EQ(extent.status(), absl::OkStatus());
      ASSERT_EQ(extent->range.offset_bytes, at);
      ASSERT_GT(extent->range.length_bytes, 0u);
      ASSERT_LE(extent->range.end_bytes(), golden.virtual_bytes);
      if (extent->content == storage::Extent::Content::kZero &&
          extent->range.length_bytes < (uint64_t{64} << 20)) {
        EXPECT_EQ(Read(*image, extent->range), std::string(extent->range.length_bytes, '\0'));
      }
      at = extent->range.end_bytes();
      ASSERT_LT(extents, 100000);
    }
  }
}

TEST(Golden, ImagesWeCannotHandleAreRefusedByName) {
  const auto refusal = [](absl::string_view name) {
    return std::string(Image::Open(LoadGolden(name), {.read_only = true}).status().message());
  };
  EXPECT_THAT(refusal("extended-l2"), HasSubstr("xtended L2"));
  EXPECT_THAT(refusal("encrypted"), HasSubstr("ncrypt"));
  EXPECT_THAT(refusal("data-file"), HasSubstr("external data file"));
  EXPECT_THAT(refusal("unknown-feature"), HasSubstr("40"));
  // Bitmaps are a layer of their own: who opens an image loads them too, and then refuses.
  const auto image = OpenGolden("bad-bitmap-directory", /*read_only=*/true);
  const absl::Status status = LoadBitmaps(*image).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("b0"));
}

TEST(Golden, ImagesStayCleanWhenWeWriteToThem) {
  for (const GoldenImage& golden : GoldenImages()) {
    if (!golden.opens || golden.virtual_bytes == 0 || golden.corruptions > 0 ||
        golden.name == "marked-corrupt") {
      continue;
    }
    SCOPED_TRACE(golden.name);
    const auto file = LoadGolden(golden.name);
    auto image = Image::Open(file, {});
    ASSERT_EQ(image.status(), absl::OkStatus());
    ASSERT_EQ(LoadBitmaps(**image).status(), absl::OkStatus());
    ASSERT_EQ(MarkBitmapsInUse(**image), absl::OkStatus());
    const uint64_t length = std::min<uint64_t>(golden.virtual_bytes / 2, 100000);
    const std::vector<std::byte> data(length, std::byte{0x5a});
    ASSERT_EQ((*image)->Write(golden.virtual_bytes / 3, data), absl::OkStatus());
    ASSERT_EQ((*image)->WriteZeroes({golden.virtual_bytes / 4, length}), absl::OkStatus());
    ASSERT_EQ((*image)->Close(), absl::OkStatus());
    const auto result = Check(*file);
    ASSERT_EQ(result.status(), absl::OkStatus());
    EXPECT_EQ(result->corruptions, 0u) << testing::PrintToString(result->findings);
    EXPECT_LE(result->leaks, golden.leaks) << testing::PrintToString(result->findings);
  }
}

TEST(Golden, DirtyImagesGetTheirRefcountsBackWhenOpenedForWriting) {
  for (const char* name : {"lazy-dirty", "cluster-512", "refcount-1", "refcount-64", "snapshots",
                           "bitmaps", "bitmaps-small-clusters", "compressed-zstd"}) {
    SCOPED_TRACE(name);
    const auto file = LoadGolden(name);
    const Header header = *ReadHeader(*file);
    const std::string contents =
        Read(*OpenGolden(name, /*read_only=*/true), {0, header.size_bytes});
    std::byte dirty[8];
    StoreBigEndian(dirty, header.incompatible_features | incompatible_feature::kDirty);
    ASSERT_TRUE(file->Write(header_field::kIncompatibleFeatures, dirty, {}).ok());
    const std::string block = file->Contents({header.refcount_table_offset_bytes, 8});
    ASSERT_TRUE(
        file->WriteZeroes({LoadBigEndian<uint64_t>(block.data()), header.geometry.cluster_bytes()},
                          {})
            .ok());
    ASSERT_GT(Check(*file)->corruptions, 0u);
    auto image = Image::Open(file, {});
    ASSERT_EQ(image.status(), absl::OkStatus());
    ASSERT_EQ(MarkBitmapsInUse(**image), absl::OkStatus());
    ASSERT_EQ((*image)->Close(), absl::OkStatus());
    const auto result = Check(*file);
    ASSERT_EQ(result.status(), absl::OkStatus());
    EXPECT_TRUE(result->clean()) << testing::PrintToString(result->findings);
    image = Image::Open(file, {.read_only = true});
    ASSERT_EQ(image.status(), absl::OkStatus());
    EXPECT_EQ((*image)->header().incompatible_features & incompatible_feature::kDirty, 0u);
    EXPECT_TRUE(Read(**image, {0, header.size_bytes}) == contents);
  }
}

TEST(Golden, InfoSaysWhatQemuSays) {
  auto info = *GatherInfo(*OpenGolden("v2", true));
  EXPECT_EQ(info.compat, "0.10");
  EXPECT_EQ(info.refcount_bits, 16u);
  EXPECT_EQ(info.cluster_bytes, 4096u);
  EXPECT_EQ(GatherInfo(*OpenGolden("refcount-64", true))->refcount_bits, 64u);
  EXPECT_EQ(GatherInfo(*OpenGolden("compressed-zstd", true))->compression_type,
            CompressionType::kZstd);
  info = *GatherInfo(*OpenGolden("backing-top", true));
  EXPECT_EQ(info.backing_file, "backing-base.qcow2");
  EXPECT_EQ(info.backing_format, "qcow2");
  info = *GatherInfo(*OpenGolden("lazy-dirty", true));
  EXPECT_TRUE(info.lazy_refcounts && info.dirty);
  EXPECT_TRUE(GatherInfo(*OpenGolden("marked-corrupt", true))->corrupt);
  info = *GatherInfo(*OpenGolden("snapshots", true));
  ASSERT_EQ(info.snapshots.size(), 2u);
  EXPECT_EQ(info.snapshots[0].id, "1");
  EXPECT_EQ(info.snapshots[0].name, "before lunch");
  EXPECT_EQ(info.snapshots[1].name, "after \u2615");
  EXPECT_EQ(info.snapshots[1].disk_bytes, 200u * 1024);
  EXPECT_GT(info.snapshots[1].date_seconds, 1600000000u);
  info = *GatherInfo(*OpenGolden("bitmaps-in-use", true));
  ASSERT_EQ(info.bitmaps.size(), 2u);
  EXPECT_EQ(info.bitmaps[0].name, "lost");
  EXPECT_TRUE(info.bitmaps[0].in_use && info.bitmaps[0].enabled);
  EXPECT_TRUE(info.bitmaps[1].in_use && !info.bitmaps[1].enabled);
}

}  // namespace
}  // namespace tidemark::qcow2
