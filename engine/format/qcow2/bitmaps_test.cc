#include "engine/format/qcow2/bitmaps.h"

#include <algorithm>
#include <memory>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/crashing_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using bitmap::DirtyBitmap;
using storage::CrashingStorage;
using storage::MemoryStorage;
using testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

#define SKIP_WITHOUT(tool) \
  if (!HasTool(tool)) GTEST_SKIP() << tool << " is not installed"

std::shared_ptr<MemoryStorage> NewImage(uint64_t size_bytes, uint64_t cluster_size_bytes = 65536) {
  CreateOptions options;
  options.size_bytes = size_bytes;
  options.cluster_size_bytes = cluster_size_bytes;
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(Create(*file, options), absl::OkStatus());
  return file;
}

std::unique_ptr<Image> Open(std::shared_ptr<storage::Storage> file, bool read_only = false) {
  auto image = Image::Open(std::move(file), {.read_only = read_only});
  EXPECT_EQ(image.status(), absl::OkStatus());
  return image.ok() ? *std::move(image) : nullptr;
}

enum class Pattern { kNone, kAll, kFirst, kLast, kSome };
constexpr Pattern kPatterns[] = {Pattern::kNone, Pattern::kAll, Pattern::kFirst, Pattern::kLast,
                                 Pattern::kSome};

using BitmapPointer = std::unique_ptr<DirtyBitmap>;

BitmapPointer BitmapOf(uint64_t size_bytes, uint64_t granularity_bytes, Pattern pattern) {
  auto bitmap = std::make_unique<DirtyBitmap>(size_bytes, granularity_bytes);
  std::mt19937_64 random(size_bytes ^ granularity_bytes);
  switch (pattern) {
    case Pattern::kNone:
      break;
    case Pattern::kAll:
      bitmap->SetAll();
      break;
    case Pattern::kFirst:
      bitmap->Set({0, 1});
      break;
    case Pattern::kLast:
      bitmap->Set({size_bytes - 1, 1});
      break;
    case Pattern::kSome:
      for (int count = 0; count < 20; ++count) {
        bitmap->Set({random() % size_bytes, random() % (size_bytes / 16)});
      }
      break;
  }
  return bitmap;
}

BitsReader ReaderOf(std::string bits) {
  return [bits = std::move(bits)](uint64_t offset, uint64_t length) {
    return bits.substr(std::min<size_t>(offset, bits.size()), length);
  };
}

BitmapToStore ToStore(const std::string& name, const BitmapPointer& bitmap, bool enabled = true) {
  return {name, bitmap->granularity_bytes(), enabled, ReaderOf(bitmap->Serialize())};
}

std::string DigestOf(Image& image, const StoredBitmap& stored) {
  const auto bits = LoadBitmapBits(image, stored);
  EXPECT_EQ(bits.status(), absl::OkStatus());
  DirtyBitmap bitmap(image.size_bytes(), stored.granularity_bytes);
  EXPECT_EQ(bitmap.Deserialize(*bits), absl::OkStatus());
  return bitmap.Sha256();
}

void ExpectClean(storage::Storage& file) {
  const auto result = Check(file);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_TRUE(result->clean()) << testing::PrintToString(result->findings);
}

struct Shape {
  uint64_t size_bytes;
  uint64_t cluster_size_bytes;
};
constexpr Shape kShapes[] = {
    {512, 65536},
    {3 * kMiB + 512, 512},
    {9 * kMiB, 512},
    {64 * kMiB + 1536, 4096},
    {300 * kMiB + 512, 65536},
    {uint64_t{1} << 40, 2 * kMiB},
};

TEST(Bitmaps, StoredByUsAreReadByQemu) {
  SKIP_WITHOUT("qemu-storage-daemon");
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(
        absl::StrCat(shape.size_bytes, " bytes in clusters of ", shape.cluster_size_bytes));
    const auto file = NewImage(shape.size_bytes, shape.cluster_size_bytes);
    std::vector<BitmapToStore> bitmaps;
    std::vector<std::string> digests;
    for (uint64_t granularity : {512u, 4096u, 65536u, 1u << 31}) {
      if (shape.size_bytes / granularity > uint64_t{1} << 26) continue;
      for (Pattern pattern : kPatterns) {
        const BitmapPointer bitmap = BitmapOf(shape.size_bytes, granularity, pattern);
        bitmaps.push_back(
            ToStore(absl::StrCat("g", granularity, "-", static_cast<int>(pattern)), bitmap));
        digests.push_back(bitmap->Sha256());
      }
    }
    const auto image = Open(file);
    ASSERT_EQ(StoreBitmaps(*image, bitmaps), absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    ExpectClean(*file);
    const std::string path = TemporaryPath("ours.qcow2");
    SaveFile(*file, path);
    EXPECT_THAT(RunToolOrFail({"qemu-img", "check", path}), HasSubstr("No errors were found"));
    StorageDaemon daemon(path, /*read_only=*/true);
    for (size_t index = 0; index < bitmaps.size(); ++index) {
      EXPECT_EQ(daemon.BitmapDigest(bitmaps[index].name), digests[index]) << bitmaps[index].name;
    }
  }
}

TEST(Bitmaps, MadeByQemuAreReadByUs) {
  for (const GoldenBitmap& golden : GoldenBitmaps()) {
    SCOPED_TRACE(absl::StrCat(golden.image, ": ", golden.name.substr(0, 30)));
    const auto image = Open(LoadGolden(golden.image), /*read_only=*/true);
    const auto bitmaps = LoadBitmaps(*image);
    ASSERT_EQ(bitmaps.status(), absl::OkStatus());
    const auto found =
        std::find_if(bitmaps->begin(), bitmaps->end(),
                     [&golden](const StoredBitmap& bitmap) { return bitmap.name == golden.name; });
    ASSERT_NE(found, bitmaps->end());
    EXPECT_EQ(found->granularity_bytes, golden.granularity_bytes);
    EXPECT_EQ(found->enabled, golden.enabled);
    EXPECT_EQ(found->in_use, golden.in_use);
    if (golden.in_use) {
      EXPECT_EQ(DetailsOf(LoadBitmapBits(*image, *found).status())->reason,
                Reason::kBitmapInconsistent);
    } else {
      EXPECT_EQ(DigestOf(*image, *found), golden.sha256);
    }
  }
}

TEST(Bitmaps, GoThereAndBackBetweenUsAndQemu) {
  SKIP_WITHOUT("qemu-img");
  SKIP_WITHOUT("qemu-io");
  const uint64_t size_bytes = 20 * kMiB + 512;
  const auto file = NewImage(size_bytes, 4096);
  const BitmapPointer model = BitmapOf(size_bytes, 4096, Pattern::kSome);
  auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("b", model), ToStore("off", model, /*enabled=*/false)}),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  const std::string path = TemporaryPath("there.qcow2");
  SaveFile(*file, path);
  RunToolOrFail({"qemu-io", "-c", "write 5000192 70000", "-c", "write 20971520 512", path});
  const std::string disabled_digest = model->Sha256();
  model->Set({5000192, 70000});
  model->Set({20971520, 512});
  RunToolOrFail({"qemu-img", "bitmap", "--add", "-g", "1M", path, "new"});
  image = Open(LoadFile(path));
  const auto bitmaps = LoadBitmaps(*image);
  ASSERT_EQ(bitmaps.status(), absl::OkStatus());
  ASSERT_EQ(bitmaps->size(), 3u);
  for (const StoredBitmap& bitmap : *bitmaps) {
    EXPECT_TRUE(bitmap.consistent());
    EXPECT_EQ(bitmap.enabled, bitmap.name != "off");
    EXPECT_EQ(DigestOf(*image, bitmap), bitmap.name == "b" ? model->Sha256()
                                        : bitmap.name == "off"
                                            ? disabled_digest
                                            : BitmapOf(size_bytes, kMiB, Pattern::kNone)->Sha256());
  }
}

TEST(Bitmaps, KeepAnyName) {
  SKIP_WITHOUT("qemu-img");
  const uint64_t size_bytes = kMiB;
  const auto file = NewImage(size_bytes);
  const std::vector<std::string> names = {
      " ", "a/b", "\"quoted\"", "t\xc3\xa9", "\xff\x01", "new\nline", std::string(1023, 'n')};
  std::vector<BitmapToStore> bitmaps;
  for (const std::string& name : names) {
    bitmaps.push_back(ToStore(name, BitmapOf(size_bytes, 65536, Pattern::kFirst)));
  }
  auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, bitmaps), absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  const std::string path = TemporaryPath("names.qcow2");
  SaveFile(*file, path);
  EXPECT_THAT(RunToolOrFail({"qemu-img", "check", path}), HasSubstr("No errors were found"));
  image = Open(file);
  const auto loaded = LoadBitmaps(*image);
  ASSERT_EQ(loaded.status(), absl::OkStatus());
  ASSERT_EQ(loaded->size(), names.size());
  for (size_t index = 0; index < names.size(); ++index) {
    EXPECT_EQ((*loaded)[index].name, names[index]);
  }
}

TEST(Bitmaps, InUseTellsTheNextOpenerThatTheyAreStale) {
  SKIP_WITHOUT("qemu-img");
  const auto file = NewImage(kMiB);
  auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("b", BitmapOf(kMiB, 4096, Pattern::kSome))}),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());

  image = Open(file);
  ASSERT_EQ(MarkBitmapsInUse(*image), absl::OkStatus());
  ASSERT_EQ(image->Write(0, std::vector<std::byte>(512)), absl::OkStatus());
  ASSERT_EQ(image->Flush(), absl::OkStatus());
  image.reset();  // The process dies here.

  const std::string path = TemporaryPath("in-use.qcow2");
  SaveFile(*file, path);
  EXPECT_THAT(RunToolOrFail({"qemu-img", "info", path}), HasSubstr("in-use"));
  image = Open(file);
  auto bitmaps = LoadBitmaps(*image);
  ASSERT_EQ(bitmaps.status(), absl::OkStatus());
  ASSERT_EQ(bitmaps->size(), 1u);
  EXPECT_FALSE((*bitmaps)[0].consistent());
  // It survives a clean close, and goes when it is removed.
  ASSERT_EQ(MarkBitmapsInUse(*image), absl::OkStatus());
  ASSERT_EQ(StoreBitmaps(*image, {}), absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = Open(file);
  EXPECT_EQ(LoadBitmaps(*image)->size(), 1u);
  ASSERT_EQ(RemoveStoredBitmap(*image, "b"), absl::OkStatus());
  EXPECT_TRUE(LoadBitmaps(*image)->empty());
  EXPECT_EQ(image->header().FindExtension(extension_type::kBitmaps), nullptr);
  ASSERT_EQ(image->Close(), absl::OkStatus());
  ExpectClean(*file);
}

TEST(Bitmaps, AreLostToAWriterWhoDoesNotMarkThem) {
  const auto file = NewImage(kMiB);
  auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("b", BitmapOf(kMiB, 4096, Pattern::kSome))}),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = Open(file);
  ASSERT_EQ(image->Write(0, std::vector<std::byte>(512)), absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = Open(file);
  EXPECT_TRUE(LoadBitmaps(*image)->empty());
}

TEST(Bitmaps, OfAnImageThatAForeignProgramChangedAreNotLoaded) {
  const auto file = LoadGolden("bitmaps-autoclear");
  auto image = Open(file);
  EXPECT_TRUE(LoadBitmaps(*image)->empty());
  // New ones take their place; what the old directory used is leaked, as it was before.
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("b", BitmapOf(kMiB, 65536, Pattern::kLast))}),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = Open(file);
  ASSERT_EQ(LoadBitmaps(*image)->size(), 1u);
  EXPECT_EQ(Check(*file)->corruptions, 0u);
}

TEST(Bitmaps, WithExtraDataAreKeptForThoseWhoUnderstandIt) {
  const auto file = NewImage(kMiB);
  auto image = Open(file);
  std::vector<BitmapDirectoryEntry> entries;
  for (const auto& [name, compatible, enabled] :
       {std::make_tuple("compatible", true, true), std::make_tuple("recording", false, true),
        std::make_tuple("resting", false, false)}) {
    BitmapDirectoryEntry& entry = entries.emplace_back();
    entry.name = name;
    entry.enabled = enabled;
    entry.extra_data = "from the future";
    entry.extra_data_compatible = compatible;
    entry.table_entries = 1;
    entry.table_offset_bytes = *image->AllocateClusters(1);
    ASSERT_EQ(image->WriteMetadata(entry.table_offset_bytes, std::vector<std::byte>(65536)),
              absl::OkStatus());
  }
  const std::string directory = SerializeBitmapDirectory(entries);
  const uint64_t offset_bytes = *image->AllocateClusters(1);
  ASSERT_EQ(
      image->WriteMetadata(
          offset_bytes, {reinterpret_cast<const std::byte*>(directory.data()), directory.size()}),
      absl::OkStatus());
  ASSERT_EQ(image->UpdateHeader([&](Header& header) {
    SetBitmapsExtension(BitmapsExtension{3, {offset_bytes, directory.size()}}, &header);
    return absl::OkStatus();
  }),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());

  image = Open(file);
  auto bitmaps = *LoadBitmaps(*image);
  ASSERT_EQ(bitmaps.size(), 3u);
  EXPECT_TRUE(bitmaps[0].consistent());
  EXPECT_TRUE(bitmaps[1].unusable && bitmaps[2].unusable);
  EXPECT_FALSE(LoadBitmapBits(*image, bitmaps[1]).ok());
  ASSERT_EQ(MarkBitmapsInUse(*image), absl::OkStatus());
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("compatible", BitmapOf(kMiB, 65536, Pattern::kAll))}),
            absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  ExpectClean(*file);
  image = Open(file);
  bitmaps = *LoadBitmaps(*image);
  ASSERT_EQ(bitmaps.size(), 3u);
  for (const StoredBitmap& bitmap : bitmaps) {
    EXPECT_EQ(bitmap.entry.extra_data, "from the future");
    // Only what was recording has become stale.
    EXPECT_EQ(bitmap.in_use, bitmap.name == "recording");
  }
}

TEST(Bitmaps, StoredAgainAndAgainTakeNoMoreSpace) {
  const auto file = NewImage(64 * kMiB, 4096);
  uint64_t size_bytes = 0;
  for (int round = 0; round < 12; ++round) {
    const auto image = Open(file);
    ASSERT_EQ(MarkBitmapsInUse(*image), absl::OkStatus());
    ASSERT_EQ(StoreBitmaps(*image, {ToStore("a", BitmapOf(64 * kMiB, 512, kPatterns[round % 5])),
                                    ToStore("b", BitmapOf(64 * kMiB, 4096, Pattern::kSome))}),
              absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    ExpectClean(*file);
    if (round == 4) size_bytes = file->size_bytes();
  }
  EXPECT_LE(file->size_bytes(), 2 * size_bytes);
}

TEST(Bitmaps, ThatAreFullTakeNoClusterForTheirBits) {
  const auto file = NewImage(64 * kMiB, 4096);
  const auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, {ToStore("full", BitmapOf(64 * kMiB, 512, Pattern::kAll))}),
            absl::OkStatus());
  const auto bitmaps = LoadBitmaps(*image);
  const auto table = ReadBitmapTable(image->header().geometry, (*bitmaps)[0].entry,
                                     [&image](uint64_t offset_bytes, storage::Bytes buffer) {
                                       return image->ReadMetadata(offset_bytes, buffer);
                                     });
  EXPECT_THAT(*table, testing::AllOf(testing::SizeIs(4), testing::Each(kBitmapTableAllOnes)));
}

TEST(Bitmaps, ManyOfThemAreFine) {
  SKIP_WITHOUT("qemu-img");
  const auto file = NewImage(kMiB, 4096);
  std::vector<BitmapToStore> bitmaps;
  for (int number = 0; number < 3000; ++number) {
    bitmaps.push_back(
        ToStore(absl::StrCat("bitmap ", number), BitmapOf(kMiB, 65536, kPatterns[number % 5])));
  }
  auto image = Open(file);
  ASSERT_EQ(StoreBitmaps(*image, bitmaps), absl::OkStatus());
  ASSERT_EQ(image->Close(), absl::OkStatus());
  const std::string path = TemporaryPath("many.qcow2");
  SaveFile(*file, path);
  EXPECT_THAT(RunToolOrFail({"qemu-img", "check", path}), HasSubstr("No errors were found"));
  image = Open(file);
  EXPECT_EQ(LoadBitmaps(*image)->size(), 3000u);
  ASSERT_EQ(RemoveStoredBitmap(*image, "bitmap 1234"), absl::OkStatus());
  ASSERT_EQ(RemoveStoredBitmap(*image, "no such bitmap"), absl::OkStatus());
  EXPECT_EQ(LoadBitmaps(*image)->size(), 2999u);
}

TEST(Bitmaps, ThatDoNotFitAreRefusedByName) {
  const uint64_t size_bytes = uint64_t{8} << 40;
  const auto image = Open(NewImage(size_bytes, 2 * kMiB));
  const auto reason = [&image](const std::string& name, uint64_t granularity_bytes) {
    const absl::Status status =
        CheckBitmapsFit(*image, {{name, granularity_bytes}}, image->size_bytes());
    return status.ok() ? Reason::kJobCancelled : DetailsOf(status)->reason;
  };
  EXPECT_EQ(reason("", 65536), Reason::kInvalidField);
  EXPECT_EQ(reason(std::string(1024, 'n'), 65536), Reason::kInvalidField);
  EXPECT_EQ(reason("b", 256), Reason::kInvalidField);
  EXPECT_EQ(reason("b", 0), Reason::kInvalidField);
  EXPECT_EQ(reason("b", 65537), Reason::kInvalidField);
  EXPECT_EQ(reason("b", uint64_t{1} << 32), Reason::kInvalidField);
  EXPECT_EQ(reason("b", 512), Reason::kLimitReached);
  EXPECT_EQ(DetailsOf(StoreBitmaps(*image, {{"b", 65536, true, ReaderOf("short")}}))->reason,
            Reason::kInvalidField);
  EXPECT_EQ(DetailsOf(CheckBitmapsFit(*Open(LoadGolden("v2")), {{"b", 65536}}, kMiB))->reason,
            Reason::kNodeLacksFeature);
}

// ---- Crashes ----

// The state of every bitmap in the image, in words.
std::string Describe(Image& image) {
  const auto bitmaps = LoadBitmaps(image);
  if (!bitmaps.ok()) return bitmaps.status().ToString();
  std::string text;
  for (const StoredBitmap& bitmap : *bitmaps) {
    absl::StrAppend(&text, bitmap.name, "=",
                    bitmap.in_use ? "in use" : DigestOf(image, bitmap).substr(0, 8), ";");
  }
  return text;
}

// Does `change` to an image with two bitmaps, with the power failing at every moment of it: all
// that may be seen afterwards is the state before or the one after.
void ExpectAtomic(absl::Status (*change)(Image&)) {
  const uint64_t size_bytes = 8 * kMiB;
  const auto initial = NewImage(size_bytes, 512);
  {
    const auto image = Open(initial);
    ASSERT_EQ(StoreBitmaps(*image, {ToStore("a", BitmapOf(size_bytes, 512, Pattern::kSome)),
                                    ToStore("b", BitmapOf(size_bytes, 4096, Pattern::kSome))}),
              absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
  }
  std::set<std::string> allowed = {Describe(*Open(initial->Copy()))};
  {
    const auto image = Open(initial->Copy());
    ASSERT_EQ(change(*image), absl::OkStatus());
    allowed.insert(Describe(*image));
  }
  ASSERT_EQ(allowed.size(), 2u);
  std::set<std::string> seen;
  for (int changes = 0;; ++changes) {
    auto disk = std::make_shared<CrashingStorage>(*initial);
    auto image = Open(disk);
    disk->set_fail_from(changes);
    const bool finished = change(*image).ok();
    for (uint64_t seed = 0; seed < 4; ++seed) {
      const auto found = seed == 0 ? disk->CrashLosingAll() : disk->Crash(seed);
      const auto result = Check(*found);
      ASSERT_EQ(result.status(), absl::OkStatus());
      EXPECT_EQ(result->corruptions, 0u) << testing::PrintToString(result->findings);
      const std::string state = Describe(*Open(found, /*read_only=*/true));
      EXPECT_TRUE(allowed.count(state) == 1) << "after " << changes << " changes: " << state;
      seen.insert(state);
    }
    if (finished) break;
  }
  EXPECT_EQ(seen, allowed);
}

TEST(BitmapsAndPowerFailures, StoringIsAllOrNothing) {
  ExpectAtomic([](Image& image) {
    return StoreBitmaps(image, {ToStore("a", BitmapOf(8 * kMiB, 512, Pattern::kFirst)),
                                ToStore("c", BitmapOf(8 * kMiB, 512, Pattern::kSome))});
  });
}

TEST(BitmapsAndPowerFailures, MarkingIsAllOrNothing) { ExpectAtomic(MarkBitmapsInUse); }

TEST(BitmapsAndPowerFailures, RemovingIsAllOrNothing) {
  ExpectAtomic([](Image& image) { return RemoveStoredBitmap(image, "b"); });
}

}  // namespace
}  // namespace tidemark::qcow2
