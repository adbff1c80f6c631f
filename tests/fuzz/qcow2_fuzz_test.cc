// Hostile qcow2 images: whatever the bytes are, opening, reading, mapping, checking and writing
// give an answer or an error, with bounded work and memory.
//
// Deterministic: image number N is always the same. FUZZ_SEED=N runs that one alone,
// FUZZ_ITERATIONS=N runs more of them.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/info.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPeakMemoryKiBMax = 256 << 10;
// Of one image: far more than any of the golden ones needs, far less than a hang.
constexpr uint64_t kRequestsMax = 4'000'000;
constexpr uint64_t kBytesReadMax = uint64_t{2} << 30;
constexpr int kIterationsDefault = 400;

// Counts what is asked of the file, so that "never hangs" needs no clock. Past the limits every
// request fails, which ends what would not end.
class CountingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    bytes_read_ += buffer.size();
    return Exhausted() ? absl::ResourceExhaustedError("fuzz limit")
                       : ForwardingStorage::Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    return Exhausted() ? absl::ResourceExhaustedError("fuzz limit")
                       : ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::StatusOr<storage::Extent> Map(Range range) override {
    if (Exhausted()) return absl::ResourceExhaustedError("fuzz limit");
    return ForwardingStorage::Map(range);
  }

  bool within_limits() const { return requests_ <= kRequestsMax && bytes_read_ <= kBytesReadMax; }

 private:
  bool Exhausted() {
    ++requests_;
    return !within_limits();
  }

  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> bytes_read_ = 0;
};

uint64_t PeakMemoryKiB() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Sanitizers keep shadow and quarantine beside what the program uses.
constexpr bool kMemoryIsMeasurable =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    false;
#else
    true;
#endif

// What a reader does with an image.
void ReadEverything(Image& image, std::mt19937_64& random) {
  const uint64_t size_bytes = image.size_bytes();
  std::vector<std::byte> buffer(kMiB);
  const auto read = [&](uint64_t offset_bytes) {
    if (offset_bytes >= size_bytes) return;
    const uint64_t length = std::min<uint64_t>(buffer.size(), size_bytes - offset_bytes);
    image.Read(offset_bytes, absl::MakeSpan(buffer).subspan(0, length)).IgnoreError();
  };
  for (uint64_t at = 0; at < std::min(size_bytes, 8 * kMiB); at += buffer.size()) read(at);
  for (int count = 0; count < 8; ++count) read(random() % (size_bytes + 1));
  if (size_bytes > 0) read(size_bytes - 1);
  uint64_t at = 0;
  for (int count = 0; count < 2000 && at < size_bytes; ++count) {
    const auto extent = image.Map({at, size_bytes - at});
    if (!extent.ok()) break;
    ASSERT_EQ(extent->range.offset_bytes, at);
    ASSERT_GT(extent->range.length_bytes, 0u);
    ASSERT_LE(extent->range.end_bytes(), size_bytes);
    const auto placement = image.PlaceRead(extent->range.Intersect({at, kMiB}));
    at = extent->range.end_bytes();
  }
  GatherInfo(image).status().IgnoreError();
  const auto bitmaps = LoadBitmaps(image);
  if (!bitmaps.ok()) return;
  for (const StoredBitmap& bitmap : *bitmaps) {
    LoadBitmapBits(image, bitmap).status().IgnoreError();
  }
}

// What a writer does with one.
void WriteHereAndThere(Image& image, std::mt19937_64& random) {
  MarkBitmapsInUse(image).IgnoreError();
  const uint64_t size_bytes = image.size_bytes();
  std::vector<std::byte> data(100000, std::byte{0x77});
  for (int count = 0; count < 12 && size_bytes > data.size(); ++count) {
    const uint64_t at = random() % std::min(size_bytes - data.size(), 64 * kMiB);
    const uint64_t length = 1 + random() % data.size();
    switch (random() % 4) {
      case 0:
        image.WriteZeroes({at, length}).IgnoreError();
        break;
      case 1:
        image.Discard({at, length}).IgnoreError();
        break;
      case 2:
        image.Flush().IgnoreError();
        break;
      default:
        image.Write(at, storage::ConstBytes(data).subspan(0, length)).IgnoreError();
    }
  }
  const auto bitmaps = LoadBitmaps(image);
  if (bitmaps.ok() && !bitmaps->empty()) {
    RemoveStoredBitmap(image, bitmaps->front().name).IgnoreError();
  }
  const uint64_t bits = (size_bytes / 65536 + (size_bytes % 65536 != 0) + 7) / 8;
  if (bits <= kMiB) {
    StoreBitmaps(image, {{"fuzz", 65536, true, std::string(bits, '\x55')}}).IgnoreError();
  }
  if (size_bytes < (uint64_t{1} << 40)) image.Resize(size_bytes + 512 * 1024).IgnoreError();
  image.Close().IgnoreError();
}

void Exercise(const MemoryStorage& contents, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto file = std::make_shared<CountingStorage>(contents.Copy());
  auto image = Image::Open(file, {.read_only = true});
  if (image.ok()) ReadEverything(**image, random);
  EXPECT_TRUE(file->within_limits()) << "reading";
  const auto checked = std::make_shared<CountingStorage>(contents.Copy());
  Check(*checked).status().IgnoreError();
  EXPECT_TRUE(checked->within_limits()) << "checking";
  const auto written = std::make_shared<CountingStorage>(contents.Copy());
  image = Image::Open(written, {});
  if (image.ok()) WriteHereAndThere(**image, random);
  EXPECT_TRUE(written->within_limits()) << "writing";
  if (kMemoryIsMeasurable) {
    ASSERT_LE(PeakMemoryKiB(), kPeakMemoryKiBMax);
  }
}

// ---- Damage at random ----

void Store64(MemoryStorage& file, uint64_t offset_bytes, uint64_t value) {
  std::byte bytes[8];
  StoreBigEndian(bytes, value);
  ASSERT_TRUE(file.Write(offset_bytes, bytes, {}).ok());
}

void Store32(MemoryStorage& file, uint64_t offset_bytes, uint32_t value) {
  std::byte bytes[4];
  StoreBigEndian(bytes, value);
  ASSERT_TRUE(file.Write(offset_bytes, bytes, {}).ok());
}

// A number that somebody may have forgotten to think of.
uint64_t InterestingNumber(const MemoryStorage& file, std::mt19937_64& random) {
  const uint64_t cluster = random() % (file.size_bytes() / 512 + 1) * 512;
  switch (random() % 12) {
    case 0:
      return 0;
    case 1:
      return random() % 16;
    case 2:
      return ~uint64_t{0} - random() % 4;
    case 3:
      return uint64_t{1} << random() % 64;
    case 4:
      return (uint64_t{1} << random() % 64) - 1;
    case 5:
      return (uint64_t{1} << 56) - 512 * (random() % 4);
    case 6:
      return kEntryCompressed | random();
    case 7:
      return kEntryCopied | cluster;
    case 8:
      return cluster | kEntryZero;
    case 9:
      return random();
    default:
      return cluster;
  }
}

void Damage(MemoryStorage& file, std::mt19937_64& random) {
  if (file.size_bytes() < 1024) return;
  // Half of all damage is where it hurts most.
  const bool in_header = random() % 2 == 0;
  const uint64_t span = in_header ? 512 : file.size_bytes();
  const uint64_t at = random() % (span - 8);
  switch (random() % 5) {
    case 0: {
      const std::byte byte{static_cast<uint8_t>(random())};
      ASSERT_TRUE(file.Write(at, {&byte, 1}, {}).ok());
      break;
    }
    case 1:
      Store32(file, at & ~uint64_t{3}, InterestingNumber(file, random));
      break;
    case 2: {
      // One table copied over another.
      const std::string piece =
          file.Contents({random() % (file.size_bytes() - 512) & ~511ull, 512});
      ASSERT_TRUE(file.Write(at & ~uint64_t{511},
                             {reinterpret_cast<const std::byte*>(piece.data()), piece.size()}, {})
                      .ok());
      break;
    }
    case 3:
      if (random() % 8 == 0) {
        ASSERT_TRUE(file.Resize(random() % file.size_bytes()).ok());
        break;
      }
      [[fallthrough]];
    default:
      Store64(file, at & ~uint64_t{7}, InterestingNumber(file, random));
  }
}

void ExerciseDamaged(uint64_t seed) {
  SCOPED_TRACE(absl::StrCat("FUZZ_SEED=", seed));
  std::mt19937_64 random(seed);
  static const std::vector<GoldenImage> images = GoldenImages();
  const auto file = LoadGolden(images[random() % images.size()].name);
  for (uint64_t count = 1 + random() % 4; count > 0; --count) Damage(*file, random);
  Exercise(*file, seed);
}

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t number = otherwise;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

TEST(HostileImages, DamagedAtRandomGiveAnswersOrErrors) {
  if (std::getenv("FUZZ_SEED") != nullptr) {
    return ExerciseDamaged(NumberFromEnvironment("FUZZ_SEED", 0));
  }
  const uint64_t iterations = NumberFromEnvironment("FUZZ_ITERATIONS", kIterationsDefault);
  for (uint64_t seed = 0; seed < iterations && !testing::Test::HasFailure(); ++seed) {
    ExerciseDamaged(seed);
  }
}

// What the guest sees; absent if something cannot be read.
absl::optional<std::string> GuestView(const MemoryStorage& file) {
  const auto image = Image::Open(file.Copy(), {.read_only = true});
  if (!image.ok() || !LoadBitmaps(**image).ok() || (*image)->size_bytes() > 16 * kMiB) {
    return absl::nullopt;
  }
  std::string view((*image)->size_bytes(), '\0');
  const storage::Bytes bytes(reinterpret_cast<std::byte*>(view.data()), view.size());
  if (!(*image)->Read(0, bytes).ok()) return absl::nullopt;
  return view;
}

TEST(HostileImages, ThatQemuReadsAreReadAlike) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const std::string damaged = TemporaryPath("damaged.qcow2");
  const std::string raw = TemporaryPath("damaged.raw");
  int compared = 0;
  for (uint64_t seed = 0; seed < 120 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    const char* const names[] = {"v2",        "cluster-512", "compressed-zlib", "compressed-zstd",
                                 "snapshots", "bitmaps"};
    const auto file = LoadGolden(names[seed % 6]);
    for (int count = 0; count < 3; ++count) Damage(*file, random);
    const absl::optional<std::string> ours = GuestView(*file);
    SaveFile(*file, damaged);
    const ToolResult judged =
        RunTool({"qemu-img", "convert", "-f", "qcow2", "-O", "raw", damaged, raw});
    // Either may refuse what the other still takes: entries past the end of the file, say.
    if (judged.exit_code != 0 || !ours) continue;
    ++compared;
    const auto theirs = LoadFile(raw);
    EXPECT_TRUE(theirs->Contents() == *ours);
  }
  EXPECT_GT(compared, 10);
  unlink(damaged.c_str());
  unlink(raw.c_str());
}

// ---- Damage with intent ----

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
    Exercise(*file, 1);
  }
}

const auto kNameOfAttack = [](const testing::TestParamInfo<Attack>& info) {
  return info.param.name;
};
INSTANTIATE_TEST_SUITE_P(Header, Attacked, testing::ValuesIn(AttacksOnTheHeader()), kNameOfAttack);
INSTANTIATE_TEST_SUITE_P(Tables, Attacked, testing::ValuesIn(AttacksOnTables()), kNameOfAttack);

}  // namespace
}  // namespace tidemark::qcow2
