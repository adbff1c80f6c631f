#include "engine/format/qcow2/bitmap_directory.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/limits.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;
using testing::HasSubstr;

// Where things are in the golden image `bitmaps`, whose first bitmap is "every bit".
struct Places {
  uint64_t extension_data = 0;
  uint64_t directory = 0;
  uint64_t second_entry = 0;
};

Places FindPlaces(const MemoryStorage& file) {
  const std::string cluster = file.Contents({0, 4096});
  const std::string magic("\x23\x85\x28\x75", 4);
  Places places;
  places.extension_data = cluster.find(magic) + 8;
  places.directory = LoadBigEndian<uint64_t>(cluster.data() + places.extension_data + 16);
  places.second_entry = places.directory + 24 + 16;  // "every bit" and padding.
  return places;
}

absl::StatusOr<std::vector<BitmapDirectoryEntry>> ReadDirectory(MemoryStorage& file) {
  const auto header = ReadHeader(file);
  if (!header.ok()) return header.status();
  const auto read = [&file](uint64_t offset_bytes, storage::Bytes buffer) {
    return file.Read(offset_bytes, buffer);
  };
  const auto entries = ReadBitmapDirectory(*header, read);
  if (!entries.ok()) return entries;
  for (const BitmapDirectoryEntry& entry : *entries) {
    const absl::Status status = ReadBitmapTable(header->geometry, entry, read).status();
    if (!status.ok()) return status;
  }
  return entries;
}

void StoreBytes(MemoryStorage& file, uint64_t offset_bytes, absl::string_view bytes) {
  ASSERT_TRUE(
      file.Write(offset_bytes, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, {})
          .ok());
}

template <typename T>
void Store(MemoryStorage& file, uint64_t offset_bytes, T value) {
  char bytes[sizeof(T)];
  StoreBigEndian(bytes, value);
  StoreBytes(file, offset_bytes, absl::string_view(bytes, sizeof(T)));
}

struct Damage {
  std::string name;
  std::function<void(MemoryStorage&, const Places&)> change;
  // What the refusal must say.
  std::string named;
  // QEMU does not look so closely, or does so only later.
  bool qemu_does_not_mind = false;
};

class DamagedDirectory : public testing::TestWithParam<Damage> {};

TEST_P(DamagedDirectory, IsRefusedByUsAndByQemu) {
  const auto file = LoadGolden("bitmaps");
  ASSERT_EQ(ReadDirectory(*file).status(), absl::OkStatus());
  GetParam().change(*file, FindPlaces(*file));
  const absl::Status status = ReadDirectory(*file).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().named));
  if (!HasTool("qemu-img") || GetParam().qemu_does_not_mind) return;
  const std::string path = TemporaryPath("damaged.qcow2");
  SaveFile(*file, path);
  EXPECT_NE(RunTool({"qemu-img", "info", path}).exit_code, 0);
}

std::vector<Damage> Damages() {
  return {
      {"NoBitmaps", [](auto& f, auto& p) { Store<uint32_t>(f, p.extension_data, 0); }, "0 bitmaps"},
      {"TooManyBitmaps", [](auto& f, auto& p) { Store<uint32_t>(f, p.extension_data, 65536); },
       "65536"},
      {"MoreBitmapsThanEntries", [](auto& f, auto& p) { Store<uint32_t>(f, p.extension_data, 9); },
       "within an entry"},
      {"FewerBitmapsThanEntries", [](auto& f, auto& p) { Store<uint32_t>(f, p.extension_data, 2); },
       "follow"},
      {"ReservedOfTheExtension",
       [](auto& f, auto& p) { Store<uint32_t>(f, p.extension_data + 4, 1); }, "reserved"},
      {"DirectoryTooLong",
       [](auto& f, auto& p) { Store<uint64_t>(f, p.extension_data + 8, uint64_t{65} << 20); },
       "68157440"},
      {"DirectoryEmpty", [](auto& f, auto& p) { Store<uint64_t>(f, p.extension_data + 8, 0); },
       "0 bytes"},
      {"DirectoryUnaligned",
       [](auto& f, auto& p) { Store<uint64_t>(f, p.extension_data + 16, p.directory + 512); },
       "offset"},
      {"DirectoryNowhere", [](auto& f, auto& p) { Store<uint64_t>(f, p.extension_data + 16, 0); },
       "offset"},
      {"DirectoryAtTheEndOfOffsets",
       [](auto& f, auto& p) { Store<uint64_t>(f, p.extension_data + 16, ~uint64_t{0} - 4095); },
       "offset"},
      {"TableNowhere", [](auto& f, auto& p) { Store<uint64_t>(f, p.directory, 0); }, "every bit"},
      {"TableUnaligned", [](auto& f, auto& p) { Store<uint64_t>(f, p.directory, 4097); },
       "every bit"},
      {"TableAtTheEndOfOffsets",
       [](auto& f, auto& p) { Store<uint64_t>(f, p.directory, ~uint64_t{0} - 4095); }, "every bit"},
      {"TableEmpty", [](auto& f, auto& p) { Store<uint32_t>(f, p.directory + 8, 0); }, "every bit"},
      {"TableHuge", [](auto& f, auto& p) { Store<uint32_t>(f, p.directory + 8, ~0u); },
       "4294967295"},
      {"TableTooLong", [](auto& f, auto& p) { Store<uint32_t>(f, p.directory + 8, 2); },
       "every bit"},
      {"UnknownFlags", [](auto& f, auto& p) { Store<uint32_t>(f, p.directory + 12, 8); }, "flags"},
      {"UnknownType", [](auto& f, auto& p) { Store<uint8_t>(f, p.directory + 16, 2); }, "type 2"},
      {"GranularityTooSmall", [](auto& f, auto& p) { Store<uint8_t>(f, p.directory + 17, 8); },
       "2^8"},
      {"GranularityTooLarge", [](auto& f, auto& p) { Store<uint8_t>(f, p.directory + 17, 32); },
       "2^32"},
      {"GranularityWraps", [](auto& f, auto& p) { Store<uint8_t>(f, p.directory + 17, 64 + 9); },
       "2^73"},
      {"NoName", [](auto& f, auto& p) { Store<uint16_t>(f, p.directory + 18, 0); }, "no name"},
      {"NameTooLong", [](auto& f, auto& p) { Store<uint16_t>(f, p.directory + 18, 1024); }, "1024"},
      {"NamePastTheDirectory",
       [](auto& f, auto& p) { Store<uint16_t>(f, p.directory + 18, 65535); },
       "longer than the directory"},
      {"ExtraDataPastTheDirectory",
       [](auto& f, auto& p) { Store<uint32_t>(f, p.directory + 20, ~0u - 30); },
       "longer than the directory"},
      {"SameNameTwice",
       [](auto& f, auto& p) {
         StoreBytes(f, p.directory + 24, absl::string_view("fine", 4));
         Store<uint16_t>(f, p.directory + 18, 4);
         // The padding grows by what the name lost: a longer extra data makes up for it.
         Store<uint32_t>(f, p.directory + 20, 8);
         Store<uint32_t>(f, p.directory + 12, 4);
         StoreBytes(f, p.directory + 32, absl::string_view("fine\0\0\0\0", 8));
       },
       "twice", true},
      {"TablesOverlap",
       [](auto& f, auto& p) {
         const std::string first = f.Contents({p.directory, 8});
         StoreBytes(f, p.second_entry, first);
       },
       "over other metadata", true},
      {"TableIsTheDirectory",
       [](auto& f, auto& p) { Store<uint64_t>(f, p.directory, p.directory); },
       "over other metadata", true},
  };
}

INSTANTIATE_TEST_SUITE_P(BitmapDirectory, DamagedDirectory, testing::ValuesIn(Damages()),
                         [](const auto& info) { return info.param.name; });

TEST(BitmapDirectory, KeepsExtraDataAndItsFlag) {
  BitmapDirectoryEntry entry;
  entry.name = "b";
  entry.extra_data = "unknown things";
  entry.table_entries = 1;
  entry.table_offset_bytes = 8 * 65536;
  EXPECT_FALSE(entry.usable());
  entry.extra_data_compatible = true;
  EXPECT_TRUE(entry.usable());
  Header header;
  header.size_bytes = 1 << 20;
  const std::string bytes = SerializeBitmapDirectory({entry});
  SetBitmapsExtension(BitmapsExtension{1, {4 * 65536, bytes.size()}}, &header);
  const auto read = ReadBitmapDirectory(header, [&](uint64_t offset, storage::Bytes buffer) {
    EXPECT_EQ(offset, 4u * 65536);
    EXPECT_EQ(buffer.size(), bytes.size());
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return absl::OkStatus();
  });
  ASSERT_EQ(read.status(), absl::OkStatus());
  EXPECT_EQ((*read)[0].extra_data, "unknown things");
  EXPECT_TRUE((*read)[0].extra_data_compatible);
}

TEST(BitmapDirectory, ManySmallClaimsDoNotAddUpToMuchMemory) {
  // Each of them is allowed for itself, and all of them share no cluster.
  Header header;
  header.geometry.cluster_bits = 9;
  header.size_bytes = uint64_t{1} << 41;
  std::vector<BitmapDirectoryEntry> entries;
  for (uint64_t index = 0; index < 8; ++index) {
    BitmapDirectoryEntry& entry = entries.emplace_back();
    entry.name = absl::StrCat("b", index);
    entry.granularity_bits = 9;
    entry.table_entries = BitmapBytesFor(header.size_bytes, 9) >> 9;
    entry.table_offset_bytes = (index + 1) << 30;
  }
  const std::string bytes = SerializeBitmapDirectory(entries);
  SetBitmapsExtension(BitmapsExtension{8, {512, bytes.size()}}, &header);
  const auto status = ReadBitmapDirectory(header, [&](uint64_t, storage::Bytes buffer) {
                        std::memcpy(buffer.data(), bytes.data(), bytes.size());
                        return absl::OkStatus();
                      }).status();
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kLimitReached) << status;
}

TEST(BitmapDirectory, RoundsBytesUpForTheLastGranules) {
  EXPECT_EQ(BitmapBytesFor(0, 9), 0u);
  EXPECT_EQ(BitmapBytesFor(1, 9), 1u);
  EXPECT_EQ(BitmapBytesFor(512 * 8, 9), 1u);
  EXPECT_EQ(BitmapBytesFor(512 * 8 + 1, 9), 2u);
  EXPECT_EQ(BitmapBytesFor(~uint64_t{0}, 9), uint64_t{1} << 52);
  EXPECT_EQ(BitmapBytesFor(512, 31), 1u);
}

}  // namespace
}  // namespace tidemark::qcow2
