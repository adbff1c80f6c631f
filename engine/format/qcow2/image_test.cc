#include "engine/format/qcow2/image.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::Extent;
using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kMiB = 1 << 20;

std::shared_ptr<MemoryStorage> MakeFile(const CreateOptions& options) {
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(Create(*file, options), absl::OkStatus());
  return file;
}

std::unique_ptr<Image> OpenImage(std::shared_ptr<storage::Storage> file, OpenOptions options = {}) {
  auto image = Image::Open(std::move(file), options);
  EXPECT_EQ(image.status(), absl::OkStatus());
  return image.ok() ? *std::move(image) : nullptr;
}

storage::ConstBytes AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string ReadString(storage::Storage& disk, Range range) {
  std::string text(range.length_bytes, '?');
  EXPECT_EQ(disk.Read(range.offset_bytes, {reinterpret_cast<std::byte*>(text.data()), text.size()}),
            absl::OkStatus());
  return text;
}

void ExpectClean(const MemoryStorage& file) {
  if (!HasTool("qemu-img")) return;
  const std::string path = TemporaryPath("checked.qcow2");
  SaveFile(file, path);
  const ToolResult result = RunTool({"qemu-img", "check", "-f", "qcow2", path});
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

absl::optional<Reason> ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  if (!details.has_value()) return absl::nullopt;
  return details->reason;
}

TEST(Image, FreshDiskReadsAsZeroes) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  EXPECT_EQ(image->size_bytes(), kMiB);
  EXPECT_EQ(ReadString(*image, {kCluster - 10, 20}), std::string(20, '\0'));
}

TEST(Image, DataIsThereAfterCloseAndReopen) {
  auto file = MakeFile({.size_bytes = kMiB});
  auto image = OpenImage(file);
  ASSERT_EQ(image->Write(kCluster - 3, AsBytes("tidemark")), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {kCluster - 3, 8}), "tidemark");
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = OpenImage(file);
  EXPECT_EQ(ReadString(*image, {kCluster - 4, 10}), std::string("\0tidemark\0", 10));
  ExpectClean(*file);
}

TEST(Image, WithoutFlushAnImageIsAsItWasBefore) {
  auto file = MakeFile({.size_bytes = kMiB});
  OpenImage(file)->Write(0, AsBytes("lost")).IgnoreError();
  EXPECT_EQ(ReadString(*OpenImage(file), {0, 4}), std::string(4, '\0'));
  ExpectClean(*file);
}

TEST(Image, UnallocatedClustersShowTheBackingDiskAndZeroesBehindItsEnd) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  image->SetBacking(MemoryStorage::Of(std::string(kCluster + 5, 'b')));
  ASSERT_EQ(image->Write(10, AsBytes("top")), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {8, 7}), "bbtopbb");
  EXPECT_EQ(ReadString(*image, {kCluster, 8}), std::string("bbbbb\0\0\0", 8));
  const auto extent = image->Map({kCluster, kMiB - kCluster});
  ASSERT_EQ(extent.status(), absl::OkStatus());
  EXPECT_EQ(extent->depth, 2);
  EXPECT_EQ(extent->range.offset_bytes, kCluster);
}

TEST(Image, ABackingDiskIsExchangedWhileTheImageIsOpen) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  ASSERT_EQ(image->Write(10, AsBytes("top")), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {kCluster, 3}), std::string(3, '\0'));
  EXPECT_TRUE(image->limits().new_ranges_are_zero);
  image->SetBacking(MemoryStorage::Of(std::string(kMiB, 'a')));
  EXPECT_EQ(ReadString(*image, {kCluster, 3}), "aaa");
  EXPECT_FALSE(image->limits().new_ranges_are_zero);
  image->SetBacking(MemoryStorage::Of(std::string(kMiB, 'b')));
  EXPECT_EQ(ReadString(*image, {kCluster, 3}), "bbb");
  EXPECT_EQ(ReadString(*image, {8, 7}), std::string("\0\0top\0\0", 7)) << "its own cluster";
  image->SetBacking(nullptr);
  EXPECT_EQ(ReadString(*image, {kCluster, 3}), std::string(3, '\0'));
  EXPECT_TRUE(image->limits().new_ranges_are_zero);
}

// Maps do not ask each time how long it is, but what they say is of now.
TEST(Image, ABackingDiskThatIsResizedIsMappedAsLongAsItIs) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  auto backing = MemoryStorage::Of(std::string(4 * kCluster, 'b'));
  image->SetBacking(backing);
  const auto expect_end = [&](uint64_t cluster) {
    // From the start, over the end, and behind it.
    for (const uint64_t first : {uint64_t{0}, cluster - 1, cluster, cluster + 1}) {
      const auto extent = image->Map({first * kCluster, kMiB - first * kCluster});
      ASSERT_EQ(extent.status(), absl::OkStatus());
      const bool within = first < cluster;
      EXPECT_EQ(extent->content, within ? Extent::Content::kData : Extent::Content::kZero);
      EXPECT_EQ(extent->range.end_bytes(), within ? cluster * kCluster : kMiB) << first;
    }
  };
  expect_end(4);
  ASSERT_EQ(backing->Resize(6 * kCluster), absl::OkStatus());
  ASSERT_EQ(backing->Write(4 * kCluster, AsBytes(std::string(2 * kCluster, 'c'))),
            absl::OkStatus());
  expect_end(6);
  for (const uint64_t first : {uint64_t{1}, uint64_t{3}}) {
    ASSERT_EQ(backing->Resize(2 * kCluster), absl::OkStatus());
    EXPECT_EQ(image->Map({first * kCluster, kCluster})->content,
              first < 2 ? Extent::Content::kData : Extent::Content::kZero);
    expect_end(2);
    ASSERT_EQ(backing->Resize(6 * kCluster), absl::OkStatus());
    ASSERT_EQ(backing->Write(0, AsBytes(std::string(6 * kCluster, 'd'))), absl::OkStatus());
    expect_end(6);
  }
  image->SetBacking(MemoryStorage::Of(std::string(kCluster, 'e')));
  expect_end(1);
}

TEST(Image, DiscardDoesNotBringTheBackingDiskBack) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  image->SetBacking(MemoryStorage::Of(std::string(kMiB, 'b')));
  ASSERT_EQ(image->Write(0, AsBytes("top")), absl::OkStatus());
  ASSERT_EQ(image->Discard({0, kCluster}), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {0, 3}), std::string(3, '\0'));
  EXPECT_EQ(ReadString(*image, {kCluster, 3}), "bbb");
}

TEST(Image, MapTellsDataZeroesAndNothing) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  ASSERT_EQ(image->Write(kCluster, AsBytes(std::string(2 * kCluster, 'x'))), absl::OkStatus());
  ASSERT_EQ(image->WriteZeroes({kCluster, kCluster}), absl::OkStatus());
  const auto nothing = *image->Map({0, kMiB});
  EXPECT_EQ(nothing.range, (Range{0, kCluster}));
  EXPECT_EQ(nothing.depth, 0);
  const auto zero = *image->Map({kCluster, kMiB - kCluster});
  EXPECT_EQ(zero.range, (Range{kCluster, kCluster}));
  EXPECT_EQ(zero.content, Extent::Content::kZero);
  EXPECT_EQ(zero.depth, 1);
  const auto data = *image->Map({2 * kCluster, kMiB - 2 * kCluster});
  EXPECT_EQ(data.range, (Range{2 * kCluster, kCluster}));
  EXPECT_EQ(data.content, Extent::Content::kData);
}

TEST(Image, CompressedClustersShareHostClusters) {
  for (const CompressionType type : {CompressionType::kZlib, CompressionType::kZstd}) {
    auto file = MakeFile({.size_bytes = kMiB, .compression_type = type});
    auto image = OpenImage(file);
    std::string text;
    for (int i = 0; text.size() < 8 * kCluster; ++i) absl::StrAppend(&text, "line ", i / 7, "\n");
    text.resize(8 * kCluster);
    ASSERT_EQ(image->Write(0, AsBytes(text), {.compressed = true}), absl::OkStatus());
    EXPECT_EQ(ReadString(*image, {0, text.size()}), text);
    EXPECT_TRUE(image->Map({0, kCluster})->compressed);
    EXPECT_LE(image->statistics().clusters_allocated, 4u);
    ASSERT_EQ(image->Write(kCluster + 1, AsBytes("over")), absl::OkStatus());
    text.replace(kCluster + 1, 4, "over");
    EXPECT_EQ(ReadString(*image, {0, text.size()}), text);
    ASSERT_EQ(image->Close(), absl::OkStatus());
    ExpectClean(*file);
  }
}

TEST(Image, CompressedWriteOverAnAllocatedClusterFails) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  ASSERT_EQ(image->Write(0, AsBytes("x")), absl::OkStatus());
  const std::string cluster(kCluster, 'c');
  const absl::Status status = image->Write(0, AsBytes(cluster), {.compressed = true});
  EXPECT_EQ(ReasonOf(status), Reason::kIoError) << status;
  EXPECT_EQ(ReadString(*image, {0, 2}), std::string("x\0", 2));
}

TEST(Image, FreedClustersAreUsedAgainAfterAFlush) {
  auto file = MakeFile({.size_bytes = 16 * kMiB});
  auto image = OpenImage(file);
  const std::string data(kMiB, 'd');
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(image->Write(i * kMiB, AsBytes(data)), absl::OkStatus());
    ASSERT_EQ(image->Discard({i * kMiB, kMiB}), absl::OkStatus());
    ASSERT_EQ(image->Flush(), absl::OkStatus());
  }
  EXPECT_LT(file->size_bytes(), 3 * kMiB);
  ASSERT_EQ(image->Close(), absl::OkStatus());
  ExpectClean(*file);
}

TEST(Image, GrowsAndShrinks) {
  auto file = MakeFile({.size_bytes = kMiB, .cluster_size_bytes = 512});
  auto image = OpenImage(file);
  ASSERT_EQ(image->Write(kMiB - 4, AsBytes("tail")), absl::OkStatus());
  ASSERT_EQ(image->Resize(64 * kMiB), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {kMiB - 4, 8}), std::string("tail\0\0\0\0", 8));
  ASSERT_EQ(image->Write(64 * kMiB - 3, AsBytes("end")), absl::OkStatus());
  ASSERT_EQ(image->Resize(kMiB - 512), absl::OkStatus());
  ASSERT_EQ(image->Resize(2 * kMiB), absl::OkStatus());
  EXPECT_EQ(ReadString(*image, {kMiB - 4, 8}), std::string(8, '\0'));
  ASSERT_EQ(image->Close(), absl::OkStatus());
  EXPECT_EQ(OpenImage(file)->size_bytes(), 2 * kMiB);
  ExpectClean(*file);
}

TEST(Image, SteadyWritesToAllocatedClustersNeedOneFlushEach) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}));
  ASSERT_EQ(image->Write(0, AsBytes("x")), absl::OkStatus());
  ASSERT_EQ(image->Flush(), absl::OkStatus());
  const uint64_t before = image->statistics().file_flushes;
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(image->Write(i, AsBytes("y")), absl::OkStatus());
    ASSERT_EQ(image->Flush(), absl::OkStatus());
  }
  EXPECT_EQ(image->statistics().file_flushes, before + 5);
}

TEST(Image, ReadOnlyImageRefusesWrites) {
  auto image = OpenImage(MakeFile({.size_bytes = kMiB}), {.read_only = true});
  EXPECT_EQ(ReasonOf(image->Write(0, AsBytes("x"))), Reason::kNodeReadOnly);
  EXPECT_EQ(ReasonOf(image->Discard({0, kCluster})), Reason::kNodeReadOnly);
  EXPECT_EQ(image->Flush(), absl::OkStatus());
}

TEST(Image, ZeroesAreWrittenOverABackingFileThatIsOnlyNamed) {
  auto file = MakeFile({.size_bytes = kMiB, .backing_file = "base", .backing_format = "raw"});
  auto image = OpenImage(file);
  EXPECT_FALSE(image->limits().new_ranges_are_zero);
  ASSERT_EQ(image->WriteZeroes({0, kCluster}), absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = OpenImage(file);
  image->SetBacking(MemoryStorage::Of(std::string(kMiB, 'b')));
  EXPECT_EQ(ReadString(*image, {kCluster - 2, 4}), std::string("\0\0bb", 4));
}

// As an incremental backup is made: without a backing file, which it is given afterwards.
TEST(Image, ZeroesHideABackingFileThatComesLater) {
  for (uint32_t version : {2u, 3u}) {
    auto file = MakeFile({.size_bytes = kMiB, .version = version});
    auto image = OpenImage(file);
    ASSERT_EQ(image->WriteZeroes({0, kCluster}), absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    image = OpenImage(file);
    image->SetBacking(MemoryStorage::Of(std::string(kMiB, 'b')));
    EXPECT_EQ(ReadString(*image, {kCluster - 2, 4}), std::string("\0\0bb", 4)) << version;
  }
}

TEST(Image, DiscardingAHugeEmptyDiskIsQuick) {
  auto image = OpenImage(MakeFile({.size_bytes = uint64_t{128} << 30, .cluster_size_bytes = 512}));
  ASSERT_EQ(image->Discard({0, uint64_t{128} << 30}), absl::OkStatus());
  EXPECT_EQ(image->statistics().clusters_allocated, 0u);
}

TEST(Image, ChangedBackingFileIsInTheHeader) {
  auto file = MakeFile({.size_bytes = kMiB});
  auto image = OpenImage(file);
  ASSERT_EQ(image->ChangeBackingFile("base.img", "raw"), absl::OkStatus());
  EXPECT_EQ(image->header().backing_file, "base.img");
  EXPECT_EQ(*ReadHeader(*file)->backing_format, "raw");
  ASSERT_EQ(image->ChangeBackingFile("", absl::nullopt), absl::OkStatus());
  EXPECT_EQ(ReadHeader(*file)->backing_file, "");
  EXPECT_FALSE(image->ChangeBackingFile(std::string(2000, 'n'), absl::nullopt).ok());
}

}  // namespace
}  // namespace tidemark::qcow2
