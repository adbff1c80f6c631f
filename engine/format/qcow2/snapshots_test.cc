#include "engine/format/qcow2/snapshots.h"

#include "engine/base/endian.h"
#include "engine/format/qcow2/testing/golden.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;
using testing::HasSubstr;

absl::StatusOr<SnapshotTable> ReadTable(const Header& header, MemoryStorage& file) {
  return ReadSnapshotTable(header, [&file](uint64_t offset_bytes, storage::Bytes buffer) {
    return file.Read(offset_bytes, buffer);
  });
}

// The golden image with two snapshots, and its header.
struct TwoSnapshots {
  std::shared_ptr<MemoryStorage> file = LoadGolden("snapshots");
  Header header = *ReadHeader(*file);

  template <typename T>
  void Store(uint64_t offset_in_table, T value) {
    std::byte bytes[sizeof(T)];
    StoreBigEndian(bytes, value);
    ASSERT_TRUE(file->Write(header.snapshots_offset_bytes + offset_in_table, bytes, {}).ok());
  }
  std::string Refusal() {
    const auto table = ReadTable(header, *file);
    EXPECT_EQ(table.status().code(), absl::StatusCode::kDataLoss);
    return std::string(table.status().message());
  }
};

TEST(Snapshots, AreReadInOrderWithAllTheirFields) {
  TwoSnapshots image;
  const auto table = ReadTable(image.header, *image.file);
  ASSERT_EQ(table.status(), absl::OkStatus());
  ASSERT_EQ(table->snapshots.size(), 2u);
  const Snapshot& first = table->snapshots[0];
  EXPECT_EQ(first.id, "1");
  EXPECT_EQ(first.name, "before lunch");
  EXPECT_EQ(first.disk_bytes, image.header.size_bytes);
  EXPECT_EQ(first.l1_entries, image.header.l1_entries);
  EXPECT_NE(first.l1_offset_bytes, image.header.l1_offset_bytes);
  EXPECT_EQ(first.vm_state_bytes, 0u);
  EXPECT_EQ(first.instruction_count, 0u);
  EXPECT_EQ(table->snapshots[1].name, "after \u2615");
}

TEST(Snapshots, OfOldProgramsHaveNoDiskSize) {
  TwoSnapshots image;
  // The first entry's extra data becomes part of its id: as long, but nobody's disk size.
  const std::string fixed = image.file->Contents({image.header.snapshots_offset_bytes, 40});
  const uint32_t extra_bytes = LoadBigEndian<uint32_t>(fixed.data() + 36);
  image.Store<uint32_t>(36, 0);
  image.Store<uint16_t>(12, 1 + extra_bytes);
  const auto table = ReadTable(image.header, *image.file);
  ASSERT_EQ(table.status(), absl::OkStatus());
  EXPECT_EQ(table->snapshots[0].disk_bytes, absl::nullopt);
  EXPECT_EQ(table->snapshots[0].name, "before lunch");
}

TEST(Snapshots, ThatCannotBeAreRefused) {
  TwoSnapshots too_many;
  too_many.header.snapshot_count = ~0u;
  EXPECT_THAT(too_many.Refusal(), HasSubstr("4294967295"));

  TwoSnapshots nowhere;
  nowhere.header.snapshots_offset_bytes = ~uint64_t{0} - 4095;
  EXPECT_THAT(nowhere.Refusal(), HasSubstr("offset"));

  TwoSnapshots unaligned;
  unaligned.header.snapshots_offset_bytes += 8;
  EXPECT_THAT(unaligned.Refusal(), HasSubstr("offset"));

  TwoSnapshots long_extra_data;
  long_extra_data.Store<uint32_t>(36, 1025);
  EXPECT_THAT(long_extra_data.Refusal(), HasSubstr("entry 0"));
}

TEST(Snapshots, ATableThatGoesOnForEverIsCutShort) {
  TwoSnapshots image;
  image.header.snapshot_count = 65536;
  // Every byte is 0x03: each entry claims names of 771 bytes, and extra data of far too many.
  const std::vector<std::byte> threes(1 << 20, std::byte{3});
  ASSERT_TRUE(image.file->Write(image.header.snapshots_offset_bytes, threes, {}).ok());
  EXPECT_THAT(image.Refusal(), HasSubstr("entry 0"));
  // Entries of nothing but longest names: more than a table may have.
  TwoSnapshots names;
  names.header.snapshot_count = 65536;
  const auto read = [](uint64_t, storage::Bytes buffer) {
    std::fill(buffer.begin(), buffer.end(), std::byte{0});
    if (buffer.size() == 40) {
      StoreBigEndian<uint16_t>(buffer.data() + 12, 0xffff);
      StoreBigEndian<uint16_t>(buffer.data() + 14, 0xffff);
    }
    return absl::OkStatus();
  };
  const auto table = ReadSnapshotTable(names.header, read);
  EXPECT_EQ(table.status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace tidemark::qcow2
