// Every storage that holds bytes must behave as a string. Random requests from a seed go to the
// storage and to the string; then they must be equal, and Map must not call data zero.
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "engine/storage/aligned_storage.h"
#include "engine/storage/crashing_storage.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

// Takes whole sectors only, as some disks do.
class PickyStorage final : public ForwardingStorage {
 public:
  PickyStorage(std::shared_ptr<Storage> next, uint32_t unit_bytes)
      : ForwardingStorage(std::move(next)), unit_bytes_(unit_bytes) {}
  Limits limits() const override {
    Limits limits = ForwardingStorage::limits();
    limits.request_alignment_bytes = unit_bytes_;
    return limits;
  }
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    if (!IsWhole({offset_bytes, buffer.size()})) return Unaligned();
    const absl::Status status = ForwardingStorage::Read(offset_bytes, buffer);
    // Whoever reads, modifies and writes back is likely to be interrupted here.
    std::this_thread::yield();
    return status;
  }
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) override {
    if (!IsWhole({offset_bytes, data.size()})) return Unaligned();
    return ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, ZeroOptions options) override {
    if (!IsWhole(range)) return Unaligned();
    return ForwardingStorage::WriteZeroes(range, options);
  }
  absl::Status Discard(Range range) override {
    if (!IsWhole(range)) return Unaligned();
    return ForwardingStorage::Discard(range);
  }
  absl::StatusOr<Extent> Map(Range range) override {
    if (!IsWhole(range)) return Unaligned();
    return ForwardingStorage::Map(range);
  }

 private:
  bool IsWhole(Range range) const {
    return range.offset_bytes % unit_bytes_ == 0 && range.length_bytes % unit_bytes_ == 0;
  }
  static absl::Status Unaligned() { return absl::InternalError("unaligned request"); }

  const uint32_t unit_bytes_;
};

std::shared_ptr<Storage> FreshFile(uint64_t size_bytes, FileOptions options) {
  const std::string path = TestPath("disk.raw");
  EXPECT_EQ(CreateFile(path, size_bytes, Preallocation::kOff), absl::OkStatus());
  const auto file = OpenFile(path, options);
  if (options.direct && !file.ok()) return nullptr;
  EXPECT_EQ(file.status(), absl::OkStatus());
  return *file;
}

struct Kind {
  const char* name;
  std::function<std::shared_ptr<Storage>(uint64_t size_bytes)> make;
  bool grows;           // When written past its end.
  bool discard_zeroes;  // Else the range reads as before.
};

const Kind kKinds[] = {
    {"Memory", [](uint64_t size) { return std::make_shared<MemoryStorage>(size); }, true, true},
    {"File", [](uint64_t size) { return FreshFile(size, {}); }, true, false},
    {"FileThatDiscards", [](uint64_t size) { return FreshFile(size, {.discard_unmaps = true}); },
     true, true},
    {"DirectFile",
     [](uint64_t size) { return FreshFile(size, {.direct = true, .discard_unmaps = true}); }, true,
     true},
    {"Crashing",
     [](uint64_t size) { return std::make_shared<CrashingStorage>(MemoryStorage(size)); }, true,
     true},
    {"Failing",
     [](uint64_t size) {
       return std::make_shared<FailingStorage>(std::make_shared<MemoryStorage>(size));
     },
     true, true},
    {"AlignedOverSectorsOf512",
     [](uint64_t size) {
       return WithAnyAlignment(
           std::make_shared<PickyStorage>(std::make_shared<MemoryStorage>(size), 512));
     },
     false, true},
    {"AlignedOverSectorsOf4096",
     [](uint64_t size) {
       return WithAnyAlignment(
           std::make_shared<PickyStorage>(std::make_shared<MemoryStorage>(size), 4096));
     },
     false, true},
};

class StorageModel : public testing::TestWithParam<Kind> {
 protected:
  static constexpr uint64_t kSizeBytes = 256 * 1024;

  void SetUp() override {
    disk_ = GetParam().make(kSizeBytes);
    if (disk_ == nullptr) GTEST_SKIP() << "the file system has no direct I/O";
    model_ = std::string(kSizeBytes, '\0');
  }

  // Ranges of all geometries: tiny, sector-sized, whole units, touching the end.
  Range PickRange() {
    const uint64_t unit_bytes = uint64_t{1} << (random_() % 14);
    uint64_t offset_bytes = random_() % model_.size() / unit_bytes * unit_bytes;
    uint64_t length_bytes = (1 + random_() % 9) * unit_bytes;
    if (random_() % 8 == 0) offset_bytes = model_.size() - std::min(length_bytes, model_.size());
    const bool past_end = GetParam().grows && random_() % 16 == 0 && model_.size() < 2 * kSizeBytes;
    if (!past_end) length_bytes = std::min(length_bytes, model_.size() - offset_bytes);
    return {offset_bytes, length_bytes};
  }

  void GrowModel(Range range) {
    if (range.end_bytes() > model_.size()) model_.resize(range.end_bytes());
  }

  void Write(Range range) {
    // Also at memory addresses that direct I/O cannot use.
    std::string data(range.length_bytes + 1, static_cast<char>('a' + random_() % 26));
    const auto* bytes = reinterpret_cast<const std::byte*>(data.data()) + random_() % 2;
    ASSERT_EQ(disk_->Write(range.offset_bytes, ConstBytes(bytes, range.length_bytes)),
              absl::OkStatus());
    GrowModel(range);
    model_.replace(range.offset_bytes, range.length_bytes, data.substr(0, range.length_bytes));
  }

  void Zero(Range range) {
    ZeroOptions options;
    options.may_unmap = random_() % 2 == 0;
    ASSERT_EQ(disk_->WriteZeroes(range, options), absl::OkStatus());
    GrowModel(range);
    model_.replace(range.offset_bytes, range.length_bytes, range.length_bytes, '\0');
  }

  void Discard(Range range) {
    range = range.Intersect({0, model_.size()});
    ASSERT_EQ(disk_->Discard(range), absl::OkStatus());
    if (!GetParam().discard_zeroes) return;
    // Whole sectors or nothing, in case of a storage that has sectors.
    std::string now(range.length_bytes, '?');
    Read(range, &now);
    for (uint64_t i = 0; i < range.length_bytes; ++i) {
      char& was = model_[range.offset_bytes + i];
      ASSERT_TRUE(now[i] == was || now[i] == '\0') << "at " << range.offset_bytes + i;
      was = now[i];
    }
  }

  void Resize() {
    const uint64_t size_bytes = (1 + random_() % 100) * kSizeBytes / 64;
    ASSERT_EQ(disk_->Resize(size_bytes), absl::OkStatus());
    model_.resize(size_bytes);
  }

  void Read(Range range, std::string* text) {
    auto* bytes = reinterpret_cast<std::byte*>(text->data());
    ASSERT_EQ(disk_->Read(range.offset_bytes, Bytes(bytes, range.length_bytes)), absl::OkStatus());
  }

  void CheckRead(Range range) {
    std::string text(range.length_bytes, '?');
    Read(range, &text);
    std::string expected = model_.substr(range.offset_bytes, range.length_bytes);
    expected.resize(range.length_bytes);
    ASSERT_TRUE(text == expected) << "differs within " << range;
  }

  // Adjacent answers cover the disk, and what is called zero is zero.
  void CheckMap() {
    for (uint64_t at = 0; at < model_.size();) {
      const Range rest = Range::FromTo(at, model_.size());
      const auto extent = disk_->Map(rest);
      ASSERT_EQ(extent.status(), absl::OkStatus());
      ASSERT_EQ(extent->range.offset_bytes, at);
      ASSERT_TRUE(!extent->range.empty() && extent->range.FitsIn(model_.size()));
      if (extent->content == Extent::Content::kZero) {
        const std::string part = model_.substr(at, extent->range.length_bytes);
        ASSERT_EQ(part.find_first_not_of('\0'), std::string::npos) << extent->range;
      }
      at = extent->range.end_bytes();
    }
  }

  // Reads the whole disk by way of a placement and a queue, where there are any.
  void CheckPlacedRead() {
    const auto placement = disk_->PlaceRead({0, model_.size()});
    ASSERT_EQ(placement.status(), absl::OkStatus());
    if (*placement == nullptr) return;
    std::string text(model_.size(), '\0');
    const std::unique_ptr<IoQueue> queue = MakeIoQueue(4);
    uint64_t at = 0;
    for (const Placement::Piece& piece : (*placement)->pieces()) {
      ASSERT_EQ(piece.range.offset_bytes, at);
      at = piece.range.end_bytes();
      if (piece.target == nullptr) continue;
      IoQueue::Request request;
      request.target = piece.target;
      request.offset_bytes = piece.target_offset_bytes;
      request.memory = reinterpret_cast<std::byte*>(&text[piece.range.offset_bytes]);
      request.length_bytes = piece.range.length_bytes;
      queue->Submit(request);
      std::vector<IoQueue::Completion> completions;
      queue->Reap(absl::InfiniteDuration(), &completions);
      ASSERT_EQ(completions.size(), 1u);
      ASSERT_EQ(completions[0].status, absl::OkStatus());
    }
    ASSERT_EQ(at, model_.size());
    ASSERT_TRUE(text == model_);
  }

  void Play(uint64_t seed) {
    random_.seed(seed);
    for (int move = 0; move < 400 && !HasFatalFailure(); ++move) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " move " << move);
      switch (random_() % 10) {
        case 0:
          Zero(PickRange());
          break;
        case 1:
          Discard(PickRange());
          break;
        case 2:
          if (GetParam().grows && random_() % 4 == 0) Resize();
          break;
        case 3:
          ASSERT_EQ(disk_->Flush(), absl::OkStatus());
          break;
        case 4:
          CheckMap();
          break;
        case 5:
        case 6:
          CheckRead(PickRange());
          break;
        default:
          Write(PickRange());
      }
      ASSERT_EQ(disk_->size_bytes(), model_.size());
    }
    if (HasFatalFailure()) return;
    CheckRead({0, model_.size()});
    CheckMap();
    CheckPlacedRead();
  }

  std::mt19937_64 random_;
  std::shared_ptr<Storage> disk_;
  std::string model_;
};

TEST_P(StorageModel, AgreesWithAString) {
  for (uint64_t seed = 1; seed <= 5 && !HasFatalFailure(); ++seed) {
    disk_ = nullptr;
    SetUp();
    Play(seed);
  }
}

TEST_P(StorageModel, TakesRequestsOfNoBytes) {
  EXPECT_EQ(disk_->Write(5, ConstBytes()), absl::OkStatus());
  EXPECT_EQ(disk_->Read(5, Bytes()), absl::OkStatus());
  EXPECT_EQ(disk_->WriteZeroes({5, 0}), absl::OkStatus());
  EXPECT_EQ(disk_->Discard({5, 0}), absl::OkStatus());
  EXPECT_EQ(disk_->size_bytes(), kSizeBytes);
}

TEST_P(StorageModel, RefusesRangesWhoseEndWraps) {
  std::byte bytes[16] = {};
  EXPECT_EQ(disk_->Write(~uint64_t{0} - 3, ConstBytes(bytes, 16)).code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk_->Read(~uint64_t{0} - 3, Bytes(bytes, 16)).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk_->WriteZeroes({8, ~uint64_t{0}}).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk_->Map({8, ~uint64_t{0}}).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk_->size_bytes(), kSizeBytes);
}

TEST(AlignedStorage, WritersOfOneSectorDoNotUndoEachOther) {
  const auto memory = std::make_shared<MemoryStorage>(4096);
  const auto disk = WithAnyAlignment(std::make_shared<PickyStorage>(memory, 4096));
  constexpr int kWriters = 4;
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t at = writer; at < 4096; at += kWriters) {
        const std::byte mark{static_cast<unsigned char>('a' + writer)};
        EXPECT_EQ(disk->Write(at, ConstBytes(&mark, 1)), absl::OkStatus());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  std::string expected;
  for (int i = 0; i < 4096 / kWriters; ++i) expected += "abcd";
  EXPECT_EQ(memory->Contents(), expected);
}

TEST(AlignedStorage, IsNotThereWhereItIsNotNeeded) {
  const std::shared_ptr<Storage> memory = std::make_shared<MemoryStorage>(4096);
  EXPECT_EQ(WithAnyAlignment(memory), memory);
}

INSTANTIATE_TEST_SUITE_P(All, StorageModel, testing::ValuesIn(kKinds),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tidemark::storage
