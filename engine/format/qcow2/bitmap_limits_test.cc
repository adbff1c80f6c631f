// How many bitmaps of which size an image can hold, and what becomes of one that it cannot.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

std::shared_ptr<MemoryStorage> NewImage(uint64_t size_bytes, uint64_t cluster_size_bytes = 65536) {
  CreateOptions options;
  options.size_bytes = size_bytes;
  options.cluster_size_bytes = cluster_size_bytes;
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(Create(*file, options), absl::OkStatus());
  return file;
}

std::unique_ptr<Image> Open(std::shared_ptr<storage::Storage> file) {
  auto image = Image::Open(std::move(file), {});
  EXPECT_EQ(image.status(), absl::OkStatus());
  return image.ok() ? *std::move(image) : nullptr;
}

// Bits that repeat in every byte.
BitsReader Bytes(char byte) {
  return [byte](uint64_t, uint64_t length) { return std::string(length, byte); };
}

TEST(BitmapLimits, ThoseThatDoNotFitTogetherAreRefusedByCountBitsAndNames) {
  const auto image = Open(NewImage(kMiB));
  const auto reason = [&image](size_t count, uint64_t granularity_bytes, uint64_t disk_bytes,
                               size_t name_bytes = 1) {
    const std::vector<BitmapShape> shapes(count, {std::string(name_bytes, 'n'), granularity_bytes});
    const absl::Status status = CheckBitmapsFit(*image, shapes, disk_bytes);
    return status.ok() ? Reason::kJobCancelled : DetailsOf(status)->reason;
  };
  EXPECT_EQ(reason(65535, 65536, kMiB), Reason::kJobCancelled);
  EXPECT_EQ(reason(65536, 65536, kMiB), Reason::kLimitReached);
  EXPECT_EQ(reason(65535, 65536, kMiB, 1023), Reason::kLimitReached);
  // 128 MiB of bits each.
  const uint64_t tebibyte = uint64_t{1} << 40;
  EXPECT_EQ(reason(8, 65536, 64 * tebibyte), Reason::kJobCancelled);
  EXPECT_EQ(reason(9, 65536, 64 * tebibyte), Reason::kLimitReached);
  EXPECT_EQ(reason(9, 131072, 64 * tebibyte), Reason::kJobCancelled);
}

TEST(BitmapLimits, NineEmptyOnesOfAHugeDiskCanBeLoadedAndStoredAgain) {
  const uint64_t size_bytes = uint64_t{64} << 40;
  const auto file = NewImage(size_bytes);
  uint64_t longest = 0;
  const auto empty = [&longest](uint64_t, uint64_t length) {
    longest = std::max(longest, length);
    return std::string(length, '\0');
  };
  std::vector<BitmapToStore> bitmaps;
  for (int i = 0; i < 9; ++i) bitmaps.push_back({absl::StrCat("b", i), 65536, true, empty});
  {
    const auto image = Open(file);
    ASSERT_EQ(StoreBitmaps(*image, bitmaps), absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
  }
  // A cluster at a time.
  EXPECT_EQ(longest, 65536);
  const auto image = Open(file);
  const auto loaded = LoadBitmaps(*image);
  ASSERT_EQ(loaded.status(), absl::OkStatus());
  ASSERT_EQ(loaded->size(), 9);
  for (const StoredBitmap& bitmap : *loaded) {
    int pieces = 0;
    EXPECT_EQ(ReadBitmapBits(*image, bitmap,
                             [&pieces](uint64_t, uint64_t, const char*) {
                               ++pieces;
                               return absl::OkStatus();
                             }),
              absl::OkStatus());
    EXPECT_EQ(pieces, 0);
  }
}

TEST(BitmapLimits, OneThatCannotBeStoredTakesNoOtherWithItAndGivesItsClustersBack) {
  const auto file = NewImage(8 * kMiB, 512);
  {
    const auto image = Open(file);
    ASSERT_EQ(StoreBitmaps(*image, {{"b", 512, true, Bytes('\xff')}}), absl::OkStatus());
    ASSERT_EQ(MarkBitmapsInUse(*image), absl::OkStatus());
    // It fails after some of its clusters.
    const auto fails = [](uint64_t offset, uint64_t length) {
      return std::string(offset == 0 ? length : 1, '\x11');
    };
    const std::vector<BitmapToStore> bitmaps = {
        {"a", 512, true, Bytes('\x55')}, {"b", 512, true, fails}, {"c", 512, true, Bytes('\x01')}};
    EXPECT_FALSE(StoreBitmaps(*image, bitmaps, StoreMode::kAll).ok());
    EXPECT_EQ(LoadBitmaps(*image)->size(), 1);
    EXPECT_TRUE(LoadBitmaps(*image)->front().in_use);
    const absl::Status status = StoreBitmaps(*image, bitmaps, StoreMode::kWhatCanBe);
    EXPECT_THAT(std::string(status.message()), HasSubstr("'b'"));
    ASSERT_EQ(image->Close(), absl::OkStatus());
  }
  const auto result = Check(*file);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_EQ(result->corruptions, 0u) << testing::PrintToString(result->findings);
  EXPECT_EQ(result->leaks, 0u) << testing::PrintToString(result->findings);
  const auto image = Open(file);
  const auto bitmaps = LoadBitmaps(*image);
  ASSERT_EQ(bitmaps.status(), absl::OkStatus());
  for (const StoredBitmap& bitmap : *bitmaps) EXPECT_EQ(bitmap.in_use, bitmap.name == "b");
  EXPECT_EQ(bitmaps->size(), 3);
}

TEST(BitmapLimits, DisownedOnesAreAsIfTheyHadNeverBeen) {
  const auto file = NewImage(8 * kMiB);
  const auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, {{"b", 512, true, Bytes('\x55')}}), absl::OkStatus());
  ASSERT_EQ(DisownBitmaps(*image), absl::OkStatus());
  EXPECT_TRUE(LoadBitmaps(*image)->empty());
  ASSERT_EQ(StoreBitmaps(*image, {{"b", 512, true, Bytes('\x11')}}), absl::OkStatus());
  EXPECT_EQ(LoadBitmaps(*image)->size(), 1);
}

}  // namespace
}  // namespace tidemark::qcow2
