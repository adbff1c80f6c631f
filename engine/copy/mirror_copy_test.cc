#include "engine/copy/mirror_copy.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;
using storage::SlowStorage;
using storage::Verb;

constexpr uint64_t kGranule = 65536;
constexpr uint64_t kSize = 64 * kGranule;
constexpr uint64_t kUnlimited = ~uint64_t{0};

// Marks what is changed, as the node of a graph does.
class MarkingStorage final : public storage::ForwardingStorage {
 public:
  MarkingStorage(std::shared_ptr<storage::Storage> next, std::shared_ptr<bitmap::DirtyBitmap> bits)
      : ForwardingStorage(std::move(next)), bits_(std::move(bits)) {}
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    absl::Status status = ForwardingStorage::Write(offset_bytes, data, options);
    bits_->Set({offset_bytes, data.size()});
    return status;
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    absl::Status status = ForwardingStorage::WriteZeroes(range, options);
    bits_->Set(range);
    return status;
  }

 private:
  const std::shared_ptr<bitmap::DirtyBitmap> bits_;
};

// Advanced by one thread while others look at it.
class SharedClock final : public Clock {
 public:
  absl::Time Now() override { return absl::UnixEpoch() + Elapsed(); }
  absl::Duration Elapsed() override { return absl::Seconds(seconds_.load()); }
  void AdvanceSeconds(int seconds) { seconds_ += seconds; }

 private:
  std::atomic<int> seconds_ = 0;
};

class MirrorCopyTest : public ::testing::Test {
 protected:
  MirrorCopyTest() {
    dirty_->SetAll();
    std::string content(kSize, '\0');
    for (size_t at = 0; at < content.size(); ++at)
      content[at] = static_cast<char>(at * at >> 11 | 1);
    memory_ = MemoryStorage::Of(content);
    source_ = std::make_shared<MarkingStorage>(memory_, dirty_);
  }

  void MakeMirror() {
    CopyOptions options;
    options.cluster_bytes = kGranule;
    mirror_ = MirrorCopy::Make(memory_, target_, dirty_, options, workers_, &clock_);
    mirror_->set_waker([this] { ++wake_count_; });
    disk_ = std::make_shared<MirrorFilterStorage>(source_, mirror_);
  }
  absl::Status GuestWrites(uint64_t offset_bytes, char byte, size_t length = 512) {
    const std::string data(length, byte);
    return disk_->Write(offset_bytes,
                        {reinterpret_cast<const std::byte*>(data.data()), data.size()}, {});
  }
  // Steps until there is something to tell, or nothing to do.
  StepResult Run() {
    for (;;) {
      const absl::StatusOr<StepResult> result = mirror_->Step(kUnlimited);
      EXPECT_TRUE(result.ok()) << result.status();
      if (!result.ok() || result->ready || result->io_error.has_value() ||
          result->next != StepResult::Next::kAgain) {
        return result.ok() ? *result : StepResult{};
      }
    }
  }
  bool AreEqual() const { return memory_->Contents() == target_memory_->Contents(); }

  const std::shared_ptr<bitmap::DirtyBitmap> dirty_ =
      std::make_shared<bitmap::DirtyBitmap>(kSize, kGranule);
  std::shared_ptr<MemoryStorage> memory_;
  std::shared_ptr<MarkingStorage> source_;
  const std::shared_ptr<MemoryStorage> target_memory_ = std::make_shared<MemoryStorage>(kSize);
  const std::shared_ptr<FailingStorage> failing_ = std::make_shared<FailingStorage>(target_memory_);
  const std::shared_ptr<SlowStorage> target_ = std::make_shared<SlowStorage>(failing_);
  CopyWorkers workers_;
  SharedClock clock_;
  std::atomic<int> wake_count_ = 0;
  std::shared_ptr<MirrorCopy> mirror_;
  std::shared_ptr<storage::Storage> disk_;
};

TEST_F(MirrorCopyTest, ItIsReadyOnceAllIsCopied) {
  MakeMirror();
  EXPECT_TRUE(Run().ready);
  EXPECT_TRUE(AreEqual());
  EXPECT_EQ(mirror_->progress(), (Progress{kSize, kSize}));
  EXPECT_EQ(Run().next, StepResult::Next::kWait);
}

TEST_F(MirrorCopyTest, WhatGuestsChangeBehindIsCopiedLaterAndWakesTheJob) {
  MakeMirror();
  ASSERT_TRUE(Run().ready);
  ASSERT_EQ(Run().next, StepResult::Next::kWait);
  EXPECT_EQ(GuestWrites(3 * kGranule, 'g'), absl::OkStatus());
  EXPECT_EQ(wake_count_, 1);
  EXPECT_FALSE(AreEqual());
  EXPECT_FALSE(mirror_->is_actively_synced());
  const StepResult result = Run();
  EXPECT_FALSE(result.ready);
  EXPECT_EQ(result.next, StepResult::Next::kWait);
  EXPECT_TRUE(AreEqual());
  EXPECT_EQ(mirror_->progress(), (Progress{kSize + kGranule, kSize + kGranule}));
}

TEST_F(MirrorCopyTest, WriteBlockingBringsAGuestsChangeToTheTargetBeforeItsAnswer) {
  MakeMirror();
  mirror_->SetWriteBlocking();
  EXPECT_FALSE(mirror_->is_actively_synced());
  ASSERT_TRUE(Run().ready);
  EXPECT_TRUE(mirror_->is_actively_synced());
  EXPECT_EQ(GuestWrites(3 * kGranule + 512, 'g'), absl::OkStatus());
  EXPECT_EQ(disk_->WriteZeroes({9 * kGranule, 3 * kGranule}, {}), absl::OkStatus());
  EXPECT_TRUE(AreEqual());
  EXPECT_TRUE(mirror_->is_actively_synced());
}

TEST_F(MirrorCopyTest, ATargetThatFailsFailsNoGuest) {
  MakeMirror();
  mirror_->SetWriteBlocking();
  ASSERT_TRUE(Run().ready);
  failing_->AddRule({.status = absl::InternalError("gone"), .verb = Verb::kWrite, .fail_count = 1});
  EXPECT_EQ(GuestWrites(3 * kGranule, 'g'), absl::OkStatus());
  EXPECT_FALSE(mirror_->is_actively_synced());
  const absl::StatusOr<StepResult> told = mirror_->Step(kUnlimited);
  ASSERT_TRUE(told.ok() && told->io_error.has_value());
  EXPECT_FALSE(told->io_error->is_read);
  // It is left to the job, as QEMU's is.
  EXPECT_EQ(Run().next, StepResult::Next::kWait);
  EXPECT_TRUE(AreEqual());
  EXPECT_TRUE(mirror_->is_actively_synced());
}

TEST_F(MirrorCopyTest, ATargetThatStandsStillIsNotWaitedForLong) {
  WorkerPool io("io", 1);
  workers_.io = &io;
  MakeMirror();
  mirror_->SetWriteBlocking();
  ASSERT_TRUE(Run().ready);
  target_->Hold(Verb::kWrite);
  std::thread guest([&] { EXPECT_EQ(GuestWrites(3 * kGranule, 'g'), absl::OkStatus()); });
  target_->AwaitHeld(1);
  clock_.AdvanceSeconds(11);
  guest.join();
  // Nor does anybody else wait for it.
  EXPECT_EQ(GuestWrites(3 * kGranule, 'h'), absl::OkStatus());
  target_->Release();
  EXPECT_EQ(mirror_->CatchUp(), absl::OkStatus());
  EXPECT_TRUE(AreEqual());
}

TEST_F(MirrorCopyTest, AGuestThatWritesFasterThanTheJobCopiesIsMadeToBringItsChangesItself) {
  MakeMirror();
  bool ready = false;
  for (int i = 0; i < 1000 && !ready; ++i) {
    // Everything, again and again, ahead of every step.
    for (uint64_t at = 0; at < kSize; at += kGranule) {
      ASSERT_EQ(GuestWrites(at, static_cast<char>('a' + i % 20), kGranule), absl::OkStatus());
    }
    ready = Run().ready;
  }
  EXPECT_TRUE(ready);
  EXPECT_TRUE(AreEqual());
  // Then it is let go.
  ASSERT_EQ(Run().next, StepResult::Next::kWait);
  EXPECT_EQ(GuestWrites(0, 'z'), absl::OkStatus());
  EXPECT_FALSE(AreEqual());
}

// Little is left, but always something.
TEST_F(MirrorCopyTest, AGuestThatAlwaysLeavesALittleIsMadeToBringItItself) {
  MakeMirror();
  bool ready = false;
  for (int i = 0; i < 10000 && !ready; ++i) {
    ASSERT_EQ(GuestWrites(i % 2 * kGranule, static_cast<char>('a' + i % 20)), absl::OkStatus());
    const absl::StatusOr<StepResult> result = mirror_->Step(kGranule);
    ASSERT_TRUE(result.ok());
    // Not before the step has come to its end.
    ASSERT_EQ(GuestWrites(i % 2 * kGranule, 'z'), absl::OkStatus());
    ready = result->ready;
  }
  EXPECT_TRUE(ready);
}

TEST_F(MirrorCopyTest, OnceItIsToEndChangesGoThroughUntilTheLastStep) {
  MakeMirror();
  ASSERT_TRUE(Run().ready);
  EXPECT_EQ(GuestWrites(5 * kGranule, 'g'), absl::OkStatus());
  mirror_->End();
  EXPECT_EQ(Run().next, StepResult::Next::kDone);
  EXPECT_EQ(GuestWrites(6 * kGranule, 'g'), absl::OkStatus());
  EXPECT_EQ(disk_->Discard({7 * kGranule, kGranule}), absl::OkStatus());
  dirty_->Set({7 * kGranule, kGranule});
  EXPECT_EQ(mirror_->CatchUp(), absl::OkStatus());
  EXPECT_TRUE(AreEqual());
}

TEST_F(MirrorCopyTest, ItComesCloseWithoutWaitingForGuestsWhoGoOn) {
  WorkerPool io("io", 2);
  workers_.io = &io;
  MakeMirror();
  mirror_->SetWriteBlocking();
  ASSERT_TRUE(Run().ready);
  target_->Hold(Verb::kWrite);
  std::thread guest([&] { EXPECT_EQ(GuestWrites(3 * kGranule, 'g'), absl::OkStatus()); });
  target_->AwaitHeld(1);
  EXPECT_EQ(mirror_->ComeClose(), absl::OkStatus());
  EXPECT_EQ(target_->held_count(), 1);
  target_->Release();
  guest.join();
}

TEST_F(MirrorCopyTest, WhatGuestsHaveBroughtToTheTargetIsFlushedInTheEndToo) {
  MakeMirror();
  mirror_->SetWriteBlocking();
  ASSERT_TRUE(Run().ready);
  EXPECT_EQ(GuestWrites(5 * kGranule, 'g'), absl::OkStatus());
  failing_->AddRule({.status = absl::InternalError("no flush"), .verb = Verb::kFlush});
  EXPECT_FALSE(mirror_->CatchUp().ok());
}

TEST_F(MirrorCopyTest, ZeroesOfMuchOfTheDiskDoNotWaitForTheJob) {
  MakeMirror();
  mirror_->SetWriteBlocking();
  EXPECT_EQ(disk_->WriteZeroes({0, kSize}, {}), absl::OkStatus());
  EXPECT_TRUE(Run().ready);
  EXPECT_TRUE(AreEqual());
}

TEST_F(MirrorCopyTest, WhatWasStoppedConcernsTheSourceAlone) {
  MakeMirror();
  mirror_->SetWriteBlocking();
  ASSERT_TRUE(Run().ready);
  mirror_->Stop();
  EXPECT_EQ(GuestWrites(3 * kGranule, 'g'), absl::OkStatus());
  EXPECT_FALSE(AreEqual());
  EXPECT_FALSE(mirror_->Step(kUnlimited).ok());
  EXPECT_FALSE(mirror_->CatchUp().ok());
}

// Many guests, both ways at once, on few granules: in the end the two are the same.
TEST_F(MirrorCopyTest, GuestsOfBothWaysLeaveTheTwoDisksTheSame) {
  WorkerPool io("io", 2);
  workers_.io = &io;
  MakeMirror();
  std::atomic<bool> stop = false;
  std::vector<std::thread> guests;
  for (int id = 0; id < 4; ++id) {
    guests.emplace_back([&, id] {
      uint32_t random = 17 * id + 1;
      while (!stop) {
        random = random * 1664525 + 1013904223;
        const uint64_t at = (random >> 8) % (8 * kGranule / 512) * 512;
        ASSERT_EQ(GuestWrites(at, static_cast<char>('a' + id), 512 * (1 + random % 5)),
                  absl::OkStatus());
      }
    });
  }
  ASSERT_TRUE(Run().ready);
  for (int i = 0; i < 200; ++i) Run();
  mirror_->SetWriteBlocking();
  for (int i = 0; i < 200; ++i) Run();
  stop = true;
  for (std::thread& guest : guests) guest.join();
  EXPECT_EQ(mirror_->CatchUp(), absl::OkStatus());
  EXPECT_TRUE(AreEqual());
}

}  // namespace
}  // namespace tidemark::copy
