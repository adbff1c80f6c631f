#include "engine/format/raw/raw_slice.h"

#include <memory>
#include <string>

#include "engine/base/error.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::raw {
namespace {

using storage::MemoryStorage;

storage::ConstBytes AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(RawSlice, ShowsOnlyItsWindow) {
  auto file = MemoryStorage::Of("0123456789");
  auto slice = OpenSlice(file, {.offset_bytes = 2, .size_bytes = 5});
  ASSERT_EQ(slice.status(), absl::OkStatus());
  EXPECT_EQ((*slice)->size_bytes(), 5u);
  std::string got(5, '?');
  ASSERT_EQ((*slice)->Read(0, {reinterpret_cast<std::byte*>(got.data()), 5}), absl::OkStatus());
  EXPECT_EQ(got, "23456");
  ASSERT_EQ((*slice)->Write(4, AsBytes("x"), {}), absl::OkStatus());
  EXPECT_EQ(file->Contents(), "012345x789");
  EXPECT_EQ((*slice)->Write(4, AsBytes("xy"), {}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(file->Contents(), "012345x789");
}

TEST(RawSlice, MapTellsOffsetsOfTheWindow) {
  auto slice = OpenSlice(MemoryStorage::Of(std::string(8192, 'x')), {.offset_bytes = 4096});
  const auto extent = (*slice)->Map({100, 200});
  ASSERT_EQ(extent.status(), absl::OkStatus());
  EXPECT_EQ(extent->range, (Range{100, 200}));
}

TEST(RawSlice, WithoutASizeItGrowsWithItsFile) {
  auto file = MemoryStorage::Of(std::string(1024, 'x'));
  auto slice = OpenSlice(file, {.offset_bytes = 512});
  ASSERT_EQ((*slice)->Resize(2048), absl::OkStatus());
  EXPECT_EQ(file->size_bytes(), 2560u);
  EXPECT_EQ((*slice)->size_bytes(), 2048u);
}

TEST(RawSlice, WithoutASizeItIsADiskOfWholeSectors) {
  auto file = MemoryStorage::Of("0123456789");
  auto slice = OpenSlice(file, {.offset_bytes = 4});
  EXPECT_EQ((*slice)->size_bytes(), 512u);
  ASSERT_EQ((*slice)->Resize(600), absl::OkStatus());
  EXPECT_EQ(file->size_bytes(), 604u);
  EXPECT_EQ((*slice)->size_bytes(), 1024u);
}

TEST(RawSlice, WithASizeItCannotBeResized) {
  auto slice = OpenSlice(MemoryStorage::Of("0123456789"), {.size_bytes = 5});
  EXPECT_EQ(DetailsOf((*slice)->Resize(6))->reason, Reason::kFeatureUnsupported);
}

TEST(RawSlice, AWindowOutsideOfTheFileIsRefused) {
  auto file = MemoryStorage::Of("0123456789");
  for (const SliceOptions& options :
       {SliceOptions{.offset_bytes = 11}, SliceOptions{.offset_bytes = 5, .size_bytes = 6},
        SliceOptions{.offset_bytes = 1, .size_bytes = ~uint64_t{0}}}) {
    const auto slice = OpenSlice(file, options);
    ASSERT_FALSE(slice.ok());
    EXPECT_EQ(DetailsOf(slice.status())->reason, Reason::kInvalidField);
  }
}

}  // namespace
}  // namespace tidemark::raw
