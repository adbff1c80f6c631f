// The power fails at every moment of a long series of requests: what is then in the file must be a
// valid image that has everything written before the last flush, and at worst leaks.

#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/crashing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/placeable_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::CrashingStorage;
using storage::MemoryStorage;
using storage::PlaceableStorage;

constexpr uint64_t kSector = 512;

struct Shape {
  std::string name;
  uint32_t version = 3;
  uint64_t cluster_bytes = 65536;
  uint32_t refcount_bits = 16;
  uint64_t disk_bytes = 1 << 20;
  bool snapshot = false;
  // Every other write is placed; some of these are given up.
  bool placed = false;
};

// Every sector of a disk, and what each may hold after a crash: what it held at the last flush, or
// anything it was given since.
class SectorHistory {
 public:
  explicit SectorHistory(std::string contents) : now_(std::move(contents)) { Sync(); }

  void Write(Range range, const std::string& data) {
    now_.replace(range.offset_bytes, range.length_bytes, data);
    for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kSector) {
      possible_[at / kSector].insert(now_.substr(at, kSector));
    }
  }
  void MayBecomeZero(Range range) {
    for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kSector) {
      possible_[at / kSector].insert(std::string(kSector, '\0'));
    }
  }
  // The disk as it reads now has been made durable.
  void Sync(const std::string* contents = nullptr) {
    if (contents != nullptr) now_ = *contents;
    possible_.assign(now_.size() / kSector, {});
    for (uint64_t i = 0; i < possible_.size(); ++i) {
      possible_[i].insert(now_.substr(i * kSector, kSector));
    }
  }
  // The offset of the first sector that holds something impossible.
  absl::optional<uint64_t> FindImpossible(const std::string& contents) const {
    for (uint64_t i = 0; i < possible_.size(); ++i) {
      if (!possible_[i].contains(contents.substr(i * kSector, kSector))) return i * kSector;
    }
    return absl::nullopt;
  }
  uint64_t size() const { return now_.size(); }

 private:
  std::string now_;
  std::vector<std::set<std::string>> possible_;
};

std::string Contents(Image& image) {
  std::string contents(image.size_bytes(), '?');
  EXPECT_EQ(image.Read(0, {reinterpret_cast<std::byte*>(contents.data()), contents.size()}),
            absl::OkStatus());
  return contents;
}

class Crash : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    const Shape& shape = GetParam();
    initial_ = std::make_shared<MemoryStorage>(0);
    ASSERT_EQ(Create(*initial_, {.size_bytes = shape.disk_bytes,
                                 .version = shape.version,
                                 .cluster_size_bytes = shape.cluster_bytes,
                                 .refcount_bits = shape.refcount_bits}),
              absl::OkStatus());
    if (!shape.snapshot) return;
    if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
    auto image = *Image::Open(initial_, {});
    const std::string data(shape.disk_bytes, 's');
    ASSERT_EQ(image->Write(0, {reinterpret_cast<const std::byte*>(data.data()), data.size()}),
              absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    const std::string path = TemporaryPath("snapshot.qcow2");
    SaveFile(*initial_, path);
    RunToolOrFail({"qemu-img", "snapshot", "-c", "before", path});
    initial_ = LoadFile(path);
  }

  // The same series of requests for the same seed, up to the first that fails.
  void Run(uint64_t seed, Image& image, SectorHistory* history);
  // One request; false if it failed.
  bool Step(std::mt19937_64& random, Image& image, SectorHistory* history);
  bool PlacedWrite(std::mt19937_64& random, Image& image, Range range, SectorHistory* history);
  void Judge(const MemoryStorage& found, const SectorHistory& history, bool by_qemu);

  std::shared_ptr<MemoryStorage> initial_;
};

bool Crash::Step(std::mt19937_64& random, Image& image, SectorHistory* history) {
  const auto pick = [&](uint64_t end) { return random() % end; };
  const uint64_t cluster = GetParam().cluster_bytes;
  const uint64_t sectors = history->size() / kSector;
  uint64_t offset = pick(sectors) * kSector;
  uint64_t length = std::min((1 + pick(3 * cluster / kSector)) * kSector, history->size() - offset);
  const Range range = {offset, length};
  switch (pick(10)) {
    case 0: {
      if (!image.Flush().ok()) return false;
      const std::string contents = Contents(image);
      history->Sync(&contents);
      return true;
    }
    case 1:
      history->Write(range, std::string(length, '\0'));
      return image.WriteZeroes(range).ok();
    case 2:
    case 3:
      history->MayBecomeZero(range);
      return image.Discard(range).ok();
    case 4: {
      // Compressed, if there is room.
      const Range whole = {offset / cluster * cluster, cluster};
      const auto extent = image.Map(whole);
      if (!extent.ok() || extent->content == storage::Extent::Content::kData) return true;
      if (extent->range != whole) return true;
      const std::string data(cluster, static_cast<char>('A' + pick(26)));
      history->Write(whole, data);
      const absl::Status status = image.Write(
          whole.offset_bytes, {reinterpret_cast<const std::byte*>(data.data()), cluster},
          {.compressed = true});
      // Zero clusters that keep their place refuse it.
      return status.ok() || absl::StrContains(status.message(), "already allocated");
    }
    default: {
      if (GetParam().placed && pick(2) == 0) return PlacedWrite(random, image, range, history);
      const std::string data(length, static_cast<char>('a' + pick(26)));
      history->Write(range, data);
      return image.Write(offset, {reinterpret_cast<const std::byte*>(data.data()), length}).ok();
    }
  }
}

// To the whole clusters about `range`.
bool Crash::PlacedWrite(std::mt19937_64& random, Image& image, Range range,
                        SectorHistory* history) {
  const Range whole = range.AlignedOut(GetParam().cluster_bytes).Intersect({0, history->size()});
  std::string data(whole.length_bytes, static_cast<char>('a' + random() % 26));
  history->Write(whole, data);
  const auto placement = image.PlaceWrite(whole);
  if (!placement.ok()) return false;
  EXPECT_NE(*placement, nullptr);
  const storage::ConstBytes bytes(reinterpret_cast<const std::byte*>(data.data()), data.size());
  for (const storage::Placement::Piece& piece : (*placement)->pieces()) {
    const storage::ConstBytes part =
        bytes.subspan(piece.range.offset_bytes - whole.offset_bytes, piece.range.length_bytes);
    if (!piece.target->Write(piece.target_offset_bytes, part).ok()) return false;
  }
  if (random() % 4 == 0) return true;
  return (*placement)->Finish().ok();
}

void Crash::Run(uint64_t seed, Image& image, SectorHistory* history) {
  std::mt19937_64 random(seed);
  for (int step = 0; step < 40; ++step) {
    if (!Step(random, image, history)) return;
  }
}

void Crash::Judge(const MemoryStorage& found, const SectorHistory& history, bool by_qemu) {
  const auto file = found.Copy();
  const auto check = Check(*file);
  ASSERT_EQ(check.status(), absl::OkStatus());
  ASSERT_EQ(check->corruptions, 0u) << testing::PrintToString(check->findings);
  if (by_qemu && HasTool("qemu-img")) {
    const std::string path = TemporaryPath("crashed.qcow2");
    SaveFile(*file, path);
    const ToolResult result = RunTool({"qemu-img", "check", "-f", "qcow2", path});
    ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 3) << result.output;
  }
  auto image = Image::Open(file, {});
  ASSERT_EQ(image.status(), absl::OkStatus());
  const auto impossible = history.FindImpossible(Contents(**image));
  ASSERT_FALSE(impossible.has_value()) << "at disk offset " << *impossible;
}

TEST_P(Crash, LeavesAValidImageWithEverythingFlushed) {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    int changes = 0;
    for (int fail_from = -1; fail_from < changes; fail_from += 1 + changes / 25) {
      CrashingStorage* const disk = new CrashingStorage(*initial_);
      const auto file = std::make_shared<PlaceableStorage>(std::shared_ptr<storage::Storage>(disk));
      auto image = *Image::Open(file, {});
      SectorHistory history(Contents(*image));
      disk->set_fail_from(fail_from);
      Run(seed, *image, &history);
      if (fail_from == -1) changes = disk->change_count();
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", power fails at change ", fail_from));
      Judge(*disk->CrashLosingAll(), history, fail_from % 16 == 0);
      Judge(*disk->CrashLosingNothing(), history, false);
      for (uint64_t crash = 0; crash < 4 && !HasFatalFailure(); ++crash) {
        SCOPED_TRACE(absl::StrCat("crash ", crash));
        Judge(*disk->Crash(crash), history, crash == 0 && fail_from % 16 == 0);
      }
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

TEST_P(Crash, ResizingIsAllOrNothing) {
  const uint64_t old_size = GetParam().disk_bytes;
  for (const uint64_t new_size : {old_size * 3, old_size / 4}) {
    if (new_size < old_size && GetParam().snapshot) continue;
    int changes = 0;
    for (int fail_from = -1; fail_from < changes; ++fail_from) {
      CrashingStorage* const disk = new CrashingStorage(*initial_);
      const auto file = std::make_shared<PlaceableStorage>(std::shared_ptr<storage::Storage>(disk));
      auto image = *Image::Open(file, {});
      const std::string data(old_size, 'r');
      ASSERT_EQ(image->Write(0, {reinterpret_cast<const std::byte*>(data.data()), old_size}),
                absl::OkStatus());
      ASSERT_EQ(image->Flush(), absl::OkStatus());
      const int before = disk->change_count();
      if (fail_from >= 0) disk->set_fail_from(before + fail_from);
      const bool resized = image->Resize(new_size).ok();
      EXPECT_EQ(resized, fail_from < 0);
      if (fail_from == -1) changes = disk->change_count() - before;
      for (uint64_t crash = 0; crash < 4; ++crash) {
        const auto found = disk->Crash(crash);
        const auto check = Check(*found);
        ASSERT_EQ(check.status(), absl::OkStatus());
        ASSERT_EQ(check->corruptions, 0u) << testing::PrintToString(check->findings);
        auto reopened = Image::Open(found, {});
        ASSERT_EQ(reopened.status(), absl::OkStatus());
        const uint64_t size = (*reopened)->size_bytes();
        ASSERT_TRUE(size == old_size || size == new_size) << size;
        // What stays is as it was; where a shrinking disk is cut off there may be zeroes already.
        const std::string contents = Contents(**reopened).substr(0, old_size);
        const std::string kept(std::min(old_size, new_size), 'r');
        ASSERT_EQ(contents.compare(0, kept.size(), kept), 0);
        ASSERT_EQ(contents.find_first_not_of(std::string("r\0", 2)), std::string::npos);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Crash,
    testing::Values(
        Shape{.name = "Default"}, Shape{.name = "Version2", .version = 2},
        Shape{.name = "SmallClusters", .cluster_bytes = 512, .disk_bytes = 64 << 10},
        Shape{.name = "SmallClustersWideRefcounts",
              .cluster_bytes = 512,
              .refcount_bits = 64,
              .disk_bytes = 64 << 10},
        Shape{.name = "OneBitRefcounts",
              .cluster_bytes = 4096,
              .refcount_bits = 1,
              .disk_bytes = 128 << 10},
        Shape{.name = "LargeClusters", .cluster_bytes = 128 << 10, .disk_bytes = 256 << 10},
        Shape{.name = "InternalSnapshot",
              .cluster_bytes = 4096,
              .disk_bytes = 128 << 10,
              .snapshot = true},
        Shape{.name = "PlacedWrites", .placed = true},
        Shape{.name = "PlacedWritesToSmallClustersAndASnapshot",
              .cluster_bytes = 4096,
              .disk_bytes = 128 << 10,
              .snapshot = true,
              .placed = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tidemark::qcow2
