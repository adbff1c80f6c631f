// No wrapper is passed by: what is moved by a placement is seen, held and failed by whoever handed
// the placement on.
#include "engine/storage/watched_placement.h"

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/error.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/placeable_storage.h"
#include "engine/storage/slow_storage.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDiskBytes = 64 * kBlock;

// Moves all of a placement, each piece by one request; returns the first error.
absl::Status Move(const Placement& placement, IoQueue::Operation operation, std::string* text) {
  const std::unique_ptr<IoQueue> queue = MakeIoQueue(16);
  auto* memory = reinterpret_cast<std::byte*>(text->data());
  const uint64_t begin = placement.pieces().front().range.offset_bytes;
  for (const Placement::Piece& piece : placement.pieces()) {
    std::byte* const to = memory + (piece.range.offset_bytes - begin);
    if (piece.target == nullptr) {
      std::fill_n(to, piece.range.length_bytes, std::byte{0});
      continue;
    }
    queue->Submit(
        {operation, piece.target, piece.target_offset_bytes, to, piece.range.length_bytes});
  }
  std::vector<IoQueue::Completion> completions;
  while (queue->in_flight() > 0) queue->Reap(absl::InfiniteDuration(), &completions);
  for (const auto& completion : completions) {
    if (!completion.status.ok()) return completion.status;
  }
  return absl::OkStatus();
}

// Writes down every move.
class Watching final : public ForwardingStorage, private PlacementWatch {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    return WatchPlacement(next().PlaceRead(range), this);
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    return WatchPlacement(next().PlaceWrite(range), this);
  }
  std::map<uint64_t, std::string> reads, writes;  // By offset: what was moved.

 private:
  absl::Status PlacedRead(Range range, Bytes buffer,
                          absl::FunctionRef<absl::Status()> move) override {
    absl::Status status = move();
    MutexLock lock(&mutex_);
    reads[range.offset_bytes] = Text(buffer);
    return status;
  }
  absl::Status PlacedWrite(Range range, ConstBytes data,
                           absl::FunctionRef<absl::Status()> move) override {
    MutexLock lock(&mutex_);
    writes[range.offset_bytes] = Text(data);
    return move();
  }
  static std::string Text(ConstBytes bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  Mutex mutex_;
};

struct Kind {
  const char* name;
  bool in_memory;
};

class PlacedIo : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam().in_memory) {
      disk_ = std::make_shared<PlaceableStorage>(std::make_shared<MemoryStorage>(kDiskBytes));
      return;
    }
    const std::string path = TestPath("placed");
    ASSERT_EQ(CreateFile(path, kDiskBytes, Preallocation::kOff), absl::OkStatus());
    disk_ = *OpenFile(path, {});
  }
  std::string ReadBack(Range range) {
    std::string text(range.length_bytes, '?');
    EXPECT_EQ(disk_->Read(range.offset_bytes,
                          Bytes(reinterpret_cast<std::byte*>(text.data()), text.size())),
              absl::OkStatus());
    return text;
  }
  absl::Status WritePlaced(Storage& disk, Range range, char filler) {
    const auto placement = disk.PlaceWrite(range);
    EXPECT_EQ(placement.status(), absl::OkStatus());
    EXPECT_NE(*placement, nullptr);
    std::string text(range.length_bytes, filler);
    absl::Status status = Move(**placement, IoQueue::Operation::kWrite, &text);
    return status.ok() ? (*placement)->Finish() : status;
  }
  absl::Status ReadPlaced(Storage& disk, Range range, std::string* text) {
    const auto placement = disk.PlaceRead(range);
    EXPECT_EQ(placement.status(), absl::OkStatus());
    EXPECT_NE(*placement, nullptr);
    text->assign(range.length_bytes, '?');
    return Move(**placement, IoQueue::Operation::kRead, text);
  }

  std::shared_ptr<Storage> disk_;
};

TEST_P(PlacedIo, MovesTheBytesOfADisk) {
  ASSERT_EQ(WritePlaced(*disk_, {2 * kBlock, kBlock}, 'd'), absl::OkStatus());
  EXPECT_EQ(ReadBack({2 * kBlock, kBlock}), std::string(kBlock, 'd'));
  std::string text;
  ASSERT_EQ(ReadPlaced(*disk_, {kBlock, 3 * kBlock}, &text), absl::OkStatus());
  EXPECT_TRUE(text ==
              std::string(kBlock, '\0') + std::string(kBlock, 'd') + std::string(kBlock, '\0'));
}

TEST_P(PlacedIo, AWatchSeesEveryByteWhereItLiesOnTheDisk) {
  Watching watching(disk_);
  ASSERT_EQ(WritePlaced(watching, {4 * kBlock, kBlock}, 'w'), absl::OkStatus());
  EXPECT_EQ(watching.writes,
            (std::map<uint64_t, std::string>{{4 * kBlock, std::string(kBlock, 'w')}}));
  std::string text;
  ASSERT_EQ(ReadPlaced(watching, {3 * kBlock, 3 * kBlock}, &text), absl::OkStatus());
  // Holes too.
  EXPECT_EQ(watching.reads,
            (std::map<uint64_t, std::string>{{3 * kBlock, std::string(kBlock, '\0')},
                                             {4 * kBlock, std::string(kBlock, 'w')},
                                             {5 * kBlock, std::string(kBlock, '\0')}}));
}

TEST_P(PlacedIo, WatchesStandBehindEachOther) {
  auto lower = std::make_shared<Watching>(disk_);
  Watching upper(lower);
  ASSERT_EQ(WritePlaced(upper, {0, kBlock}, 'x'), absl::OkStatus());
  EXPECT_EQ(lower->writes, upper.writes);
  EXPECT_EQ(lower->writes.size(), 1u);
  EXPECT_EQ(ReadBack({0, kBlock}), std::string(kBlock, 'x'));
}

TEST_P(PlacedIo, FailsWhereADiskIsBroken) {
  FailingStorage failing(disk_);
  const absl::Status error = Error(Reason::kIoError, "broken");
  failing.AddRule({.status = error, .verb = Verb::kWrite, .range = Range{8 * kBlock, 1}});
  failing.AddRule({.status = error, .verb = Verb::kRead, .range = Range{9 * kBlock, 1}});
  EXPECT_EQ(WritePlaced(failing, {7 * kBlock, kBlock}, 'a'), absl::OkStatus());
  EXPECT_EQ(WritePlaced(failing, {8 * kBlock, kBlock}, 'b'), error);
  EXPECT_EQ(WritePlaced(failing, {9 * kBlock, kBlock}, 'c'), absl::OkStatus());
  std::string text;
  EXPECT_EQ(ReadPlaced(failing, {8 * kBlock, kBlock}, &text), absl::OkStatus());
  EXPECT_EQ(ReadPlaced(failing, {8 * kBlock, 2 * kBlock}, &text), error);
  EXPECT_EQ(failing.failure_count(), 2);
  EXPECT_EQ(ReadBack({8 * kBlock, kBlock}), std::string(kBlock, '\0'));
}

TEST_P(PlacedIo, IsHeldByADiskThatIsSlow) {
  SlowStorage slow(disk_);
  slow.Hold(Verb::kWrite);
  std::thread writer([&] { EXPECT_EQ(WritePlaced(slow, {0, kBlock}, 's'), absl::OkStatus()); });
  slow.AwaitHeld(1);
  EXPECT_EQ(ReadBack({0, kBlock}), std::string(kBlock, '\0'));
  slow.LetGo();
  writer.join();
  EXPECT_EQ(ReadBack({0, kBlock}), std::string(kBlock, 's'));
}

INSTANTIATE_TEST_SUITE_P(Disks, PlacedIo,
                         testing::Values(Kind{"File", false}, Kind{"Memory", true}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ForwardingStorage, AWrapperThatSaysNothingIsNotPassedBy) {
  ForwardingStorage wrapper(
      std::make_shared<PlaceableStorage>(std::make_shared<MemoryStorage>(kDiskBytes)));
  EXPECT_EQ(*wrapper.PlaceRead({0, kBlock}), nullptr);
  EXPECT_EQ(*wrapper.PlaceWrite({0, kBlock}), nullptr);
}

}  // namespace
}  // namespace tidemark::storage
