// Images whose tables lie: each lie is met with an error that says so, and with no further writes.

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kMiB = 1 << 20;

storage::ConstBytes AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

absl::optional<Reason> ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  if (!details.has_value()) return absl::nullopt;
  return details->reason;
}

// An image whose cluster 0 and 1 hold data, and the places of its tables.
class Corruption : public testing::Test {
 protected:
  void SetUp() override { Make(3); }

  void Make(uint32_t version) {
    file_ = std::make_shared<MemoryStorage>(0);
    ASSERT_EQ(Create(*file_, {.size_bytes = kMiB, .version = version}), absl::OkStatus());
    auto image = *Image::Open(file_, {});
    ASSERT_EQ(image->Write(0, AsBytes(std::string(2 * kCluster, 'd'))), absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    l1_ = image->header().l1_offset_bytes;
    refcount_table_ = image->header().refcount_table_offset_bytes;
    l2_ = Load(l1_) & kEntryOffsetMask;
  }
  uint64_t Load(uint64_t offset) {
    std::byte bytes[8];
    EXPECT_EQ(file_->Read(offset, bytes), absl::OkStatus());
    return LoadBigEndian<uint64_t>(bytes);
  }
  void Store(uint64_t offset, uint64_t value) {
    std::byte bytes[8];
    StoreBigEndian(bytes, value);
    ASSERT_EQ(file_->Write(offset, bytes, {}), absl::OkStatus());
  }
  // Reading and writing cluster 0 fail, and so do all later writes; other clusters can be read.
  void ExpectLieFound() {
    auto image = *Image::Open(file_, {});
    EXPECT_EQ(image->Write(4 * kCluster, AsBytes("x")), absl::OkStatus());
    std::byte byte[1];
    EXPECT_EQ(ReasonOf(image->Read(0, byte)), Reason::kImageCorrupt);
    EXPECT_EQ(ReasonOf(image->Write(0, byte)), Reason::kImageCorrupt);
    EXPECT_EQ(ReasonOf(image->Write(5 * kCluster, byte)), Reason::kImageCorrupt);
    EXPECT_EQ(ReasonOf(image->Discard({kCluster, kCluster})), Reason::kImageCorrupt);
    EXPECT_EQ(image->Read(kCluster, byte), absl::OkStatus());
    EXPECT_EQ(byte[0], std::byte{'d'});
  }

  std::shared_ptr<MemoryStorage> file_;
  uint64_t l1_ = 0;
  uint64_t l2_ = 0;
  uint64_t refcount_table_ = 0;
};

TEST_F(Corruption, EntryThatIsNotAtACluster) {
  Store(l2_, kEntryCopied | (6 * kCluster + 512));
  ExpectLieFound();
}
TEST_F(Corruption, EntryPastTheEndOfTheFile) {
  Store(l2_, kEntryCopied | (kCluster << 20));
  ExpectLieFound();
}
TEST_F(Corruption, EntryWithReservedBits) {
  Store(l2_, Load(l2_) | 2);
  ExpectLieFound();
}
TEST_F(Corruption, EntryThatPointsToTheHeaderTables) {
  for (const uint64_t target : {l1_, l2_, refcount_table_}) {
    Make(3);
    Store(l2_, kEntryCopied | target);
    ExpectLieFound();
  }
}
TEST_F(Corruption, CompressedEntryThatPointsToMetadata) {
  Store(l2_, kEntryCompressed | l1_);
  ExpectLieFound();
}
TEST_F(Corruption, CompressedEntryPastTheEndOfTheFile) {
  Store(l2_, kEntryCompressed | (kCluster << 20));
  ExpectLieFound();
}
TEST_F(Corruption, ZeroEntryInAVersion2Image) {
  Make(2);
  Store(l2_, 1);
  ExpectLieFound();
}

TEST_F(Corruption, CompressedClusterThatDoesNotUnpackIsAnErrorOfThatReadOnly) {
  Store(l2_, kEntryCompressed | (Load(l2_ + 8) & kEntryOffsetMask));
  auto image = *Image::Open(file_, {});
  std::byte byte[1];
  EXPECT_EQ(ReasonOf(image->Read(0, byte)), Reason::kImageCorrupt);
  EXPECT_EQ(image->Read(kCluster, byte), absl::OkStatus());
}

TEST_F(Corruption, L1EntryThatPointsToMetadataOrNowhere) {
  for (const uint64_t target : {l1_, kCluster << 20, l2_ + 512, l2_ | 1}) {
    Make(3);
    Store(l1_, kEntryCopied | target);
    auto image = *Image::Open(file_, {});
    std::byte byte[1];
    EXPECT_EQ(ReasonOf(image->Read(0, byte)), Reason::kImageCorrupt) << target;
    EXPECT_EQ(ReasonOf(image->Write(0, byte)), Reason::kImageCorrupt);
  }
}

TEST_F(Corruption, RefcountTableThatPointsToItselfIsRefusedForWriting) {
  Store(refcount_table_, refcount_table_);
  EXPECT_EQ(ReasonOf(Image::Open(file_, {}).status()), Reason::kImageCorrupt);
  EXPECT_TRUE(Image::Open(file_, {.read_only = true}).ok());
}

TEST_F(Corruption, RefcountOfMetadataThatIsZeroStopsAllocation) {
  const uint64_t block = Load(refcount_table_);
  Store(block, 0);  // Of the first four clusters, all of them metadata.
  auto image = *Image::Open(file_, {});
  EXPECT_EQ(ReasonOf(image->Write(8 * kCluster, AsBytes("x"))), Reason::kImageCorrupt);
  EXPECT_EQ(ReasonOf(image->Write(0, AsBytes("x"))), Reason::kImageCorrupt);
}

TEST_F(Corruption, FreeingWhatIsFreeIsNoticed) {
  const uint64_t block = Load(refcount_table_);
  const uint64_t data_cluster = (Load(l2_) & kEntryOffsetMask) / kCluster;
  const std::byte zero[2] = {};
  ASSERT_EQ(file_->Write(block + data_cluster * 2, zero, {}), absl::OkStatus());
  auto image = *Image::Open(file_, {});
  EXPECT_EQ(image->Discard({0, kCluster}), absl::OkStatus());
  EXPECT_EQ(ReasonOf(image->Flush()), Reason::kImageCorrupt);
  EXPECT_EQ(ReasonOf(image->Write(0, AsBytes("x"))), Reason::kImageCorrupt);
}

TEST_F(Corruption, AnImageMarkedCorruptIsOnlyRead) {
  Store(72, incompatible_feature::kCorrupt);
  EXPECT_EQ(ReasonOf(Image::Open(file_, {}).status()), Reason::kImageCorrupt);
  EXPECT_TRUE(Image::Open(file_, {.read_only = true}).ok());
}

TEST(Autoclear, FeaturesNobodyKeepsAreClearedByTheFirstWriteOnly) {
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_EQ(Create(*file, {.size_bytes = kMiB}), absl::OkStatus());
  std::byte bytes[8];
  StoreBigEndian<uint64_t>(bytes, 0x8000000000000001);
  ASSERT_EQ(file->Write(88, bytes, {}), absl::OkStatus());
  auto image = *Image::Open(file, {});
  ASSERT_EQ(image->Read(0, bytes), absl::OkStatus());
  ASSERT_EQ(image->Flush(), absl::OkStatus());
  EXPECT_EQ(ReadHeader(*file)->autoclear_features, 0x8000000000000001);
  image->KeepAutoclearFeatures(autoclear_feature::kBitmaps);
  ASSERT_EQ(image->Write(0, bytes), absl::OkStatus());
  EXPECT_EQ(ReadHeader(*file)->autoclear_features, autoclear_feature::kBitmaps);
}

TEST(FailingFile, AFailedWriteOfDataAllocatesNothing) {
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_EQ(Create(*file, {.size_bytes = kMiB}), absl::OkStatus());
  auto failing = std::make_shared<storage::FailingStorage>(file);
  auto image = *Image::Open(failing, {});
  failing->AddRule({.status = Error(Reason::kNoSpace, "full"), .verb = storage::Verb::kWrite});
  EXPECT_EQ(ReasonOf(image->Write(0, AsBytes("x"))), Reason::kNoSpace);
  failing->ClearRules();
  EXPECT_EQ(image->Map({0, kMiB})->depth, 0);
  EXPECT_EQ(image->Write(0, AsBytes("x")), absl::OkStatus());
  EXPECT_EQ(image->Close(), absl::OkStatus());
  EXPECT_EQ(image->statistics().clusters_allocated - image->statistics().clusters_freed, 2u);
}

TEST(FailingFile, AFailedFlushIsTriedAgain) {
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_EQ(Create(*file, {.size_bytes = kMiB}), absl::OkStatus());
  auto failing = std::make_shared<storage::FailingStorage>(file);
  auto image = *Image::Open(failing, {});
  ASSERT_EQ(image->Write(0, AsBytes("kept")), absl::OkStatus());
  for (int pass = 0; pass < 4; ++pass) {
    failing->AddRule({.status = Error(Reason::kIoError, "broken"), .pass_count = pass});
    EXPECT_FALSE(image->Flush().ok());
    failing->ClearRules();
  }
  ASSERT_EQ(image->Flush(), absl::OkStatus());
  std::string got(4, '?');
  ASSERT_EQ((*Image::Open(file, {}))->Read(0, {reinterpret_cast<std::byte*>(got.data()), 4}),
            absl::OkStatus());
  EXPECT_EQ(got, "kept");
}

}  // namespace
}  // namespace tidemark::qcow2
