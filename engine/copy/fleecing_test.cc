// A target that shows the source where it holds nothing itself, and is read while guests write:
// whoever reads it sees the disk as it was.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/copy/copier.h"
#include "engine/copy/limits.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/shared_reads.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using storage::MemoryStorage;
using storage::Storage;

constexpr uint64_t kCluster = 64 * 1024;
constexpr uint64_t kSize = 128 * kCluster;

storage::ConstBytes AsBytes(const std::string& text) {
  return storage::ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

absl::Status Read(Storage* disk, uint64_t offset_bytes, uint64_t length_bytes) {
  std::vector<std::byte> buffer(length_bytes);
  return disk->Read(offset_bytes, storage::Bytes(buffer.data(), buffer.size()));
}

std::string ReadText(Storage* disk, Range range) {
  std::string text(range.length_bytes, '\0');
  EXPECT_TRUE(disk->Read(range.offset_bytes,
                         storage::Bytes(reinterpret_cast<std::byte*>(text.data()), text.size()))
                  .ok());
  return text;
}

// Stops the next read of a cluster in the middle: it has been asked for, and not been done.
class StoppingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    if (stop_next.exchange(false)) {
      stopped.Notify();
      go.Wait();
    }
    for (int i = 0; i < turn_count; ++i) std::this_thread::yield();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }

  std::atomic<bool> stop_next = false;
  // So many turns others have before a read is done.
  std::atomic<int> turn_count = 0;
  Notification stopped;
  Notification go;
};

// What is copied beside what guests overwrite.
enum class SyncAlso { kNothing, kTheRest };

class FleecingTest : public ::testing::Test {
 protected:
  FleecingTest() : before_(kSize, '\0') {
    std::mt19937_64 random(1);
    for (size_t i = 0; i < before_.size(); i += 8) {
      // Clusters of data and of zeroes.
      const uint64_t word = i / kCluster % 5 == 4 ? 0 : random();
      std::memcpy(&before_[i], &word, 8);
    }
    memory_ = MemoryStorage::Of(before_);
    source_ = std::make_shared<StoppingStorage>(memory_);
    const std::string path = absl::StrCat(::testing::TempDir(), "/fleecing-", getpid());
    EXPECT_TRUE(storage::CreateFile(path, kSize, storage::Preallocation::kOff).ok());
    auto file = storage::OpenFile(path, {.discard_unmaps = true});
    EXPECT_TRUE(file.ok()) << file.status();
    unlink(path.c_str());
    EXPECT_TRUE(qcow2::Create(**file, {.size_bytes = kSize}).ok());
    auto image = qcow2::Image::Open(*file, {.discard_unmaps = true});
    EXPECT_TRUE(image.ok()) << image.status();
    (*image)->SetBacking(source_);
    target_ = std::make_shared<graph::SharedReadsStorage>(*std::move(image), reads_);
    reads_->Begin(this);
  }
  ~FleecingTest() override { reads_->End(this); }

  void MakeCopy(SyncAlso also, Clock* clock) {
    auto bits = std::make_unique<bitmap::DirtyBitmap>(kSize, kCluster);
    bits->SetAll();
    CopyOptions options;
    options.write_through = true;
    options.only_guest_writes = also == SyncAlso::kNothing;
    options.await_target_reads = [this](Range range, const std::function<bool()>& gives_up) {
      return reads_->Await(range, absl::Milliseconds(1), gives_up);
    };
    copy_ = BlockCopy::Make(memory_, target_, std::move(bits), options,
                            {&guest_workers_, &io_workers_}, clock);
    reads_->SetCheck(this, [copy = copy_.get()] { return copy->shows_instant(); });
    guest_disk_ = std::make_shared<graph::CopyBeforeWriteStorage>(memory_, copy_);
  }

  void GuestWrites(Range range) {
    ASSERT_TRUE(
        guest_disk_->Write(range.offset_bytes, AsBytes(std::string(range.length_bytes, 'g')), {})
            .ok());
  }

  WorkerPool guest_workers_{"guest", 2};
  WorkerPool io_workers_{"io", 2};
  std::string before_;
  std::shared_ptr<MemoryStorage> memory_;
  std::shared_ptr<StoppingStorage> source_;
  const std::shared_ptr<graph::SharedReads> reads_ = std::make_shared<graph::SharedReads>();
  std::shared_ptr<Storage> target_;
  std::shared_ptr<BlockCopy> copy_;
  std::shared_ptr<Storage> guest_disk_;
};

TEST_F(FleecingTest, ReadersOfACopyThatWasGivenUpSeeNothingRatherThanWhatIsNew) {
  MakeCopy(SyncAlso::kNothing, &SystemClock());
  GuestWrites({0, kCluster});
  EXPECT_EQ(ReadText(target_.get(), {0, 3 * kCluster}), before_.substr(0, 3 * kCluster));
  copy_->Stop();
  GuestWrites({kCluster, kCluster});
  const absl::Status read = Read(target_.get(), 0, 3 * kCluster);
  EXPECT_TRUE(HasReason(read, Reason::kIoError)) << read;
  EXPECT_TRUE(HasReason(target_->Map({0, 3 * kCluster}).status(), Reason::kIoError));
  copy_->Finish();
}

TEST_F(FleecingTest, AReadThatFoundNothingInTheTargetStillSeesTheOldData) {
  MakeCopy(SyncAlso::kNothing, &SystemClock());
  source_->stop_next = true;
  std::string seen;
  std::thread reader([this, &seen] { seen = ReadText(target_.get(), {0, 3 * kCluster}); });
  source_->stopped.Wait();
  // The reader knows that the target holds nothing, and has not read the source yet.
  Notification wrote;
  std::thread guest([this, &wrote] {
    GuestWrites({kCluster, kCluster});
    wrote.Notify();
  });
  while (copy_->progress().current_bytes < kCluster) std::this_thread::yield();
  // Time for a guest that does not wait. One that does needs none.
  wrote.WaitFor(absl::Milliseconds(200));
  source_->go.Notify();
  reader.join();
  guest.join();
  EXPECT_TRUE(seen == before_.substr(0, 3 * kCluster));
  EXPECT_TRUE(ReadText(memory_.get(), {kCluster, kCluster}) == std::string(kCluster, 'g'));
  EXPECT_TRUE(copy_->lost().ok()) << copy_->lost();
  copy_->Finish();
}

TEST_F(FleecingTest, AReaderThatNeverFinishesLosesTheCopyNotTheGuest) {
  class PassingClock final : public Clock {
   public:
    absl::Time Now() override { return absl::UnixEpoch(); }
    absl::Duration Elapsed() override { return absl::Milliseconds(200 * ++looks_); }

   private:
    std::atomic<int> looks_ = 0;
  };
  PassingClock clock;
  MakeCopy(SyncAlso::kNothing, &clock);
  source_->stop_next = true;
  absl::Status read;
  std::thread reader([this, &read] { read = Read(target_.get(), 0, kCluster); });
  source_->stopped.Wait();
  // Elsewhere nobody waits.
  GuestWrites({20 * kCluster, kCluster});
  EXPECT_TRUE(copy_->lost().ok());
  GuestWrites({0, kCluster});
  EXPECT_THAT(std::string(copy_->lost().message()), ::testing::HasSubstr("reader"));
  source_->go.Notify();
  reader.join();
  EXPECT_TRUE(HasReason(read, Reason::kIoError)) << read;
  copy_->Finish();
}

TEST_F(FleecingTest, AGuestThatComesAgainWaitsForNobody) {
  MakeCopy(SyncAlso::kNothing, &SystemClock());
  GuestWrites({0, kCluster});
  source_->stop_next = true;
  // What is in the target is not read from the source: the reader stops at the second cluster.
  std::thread reader([this] { ReadText(target_.get(), {0, 2 * kCluster}); });
  source_->stopped.Wait();
  GuestWrites({0, kCluster});
  source_->go.Notify();
  reader.join();
  EXPECT_TRUE(copy_->lost().ok());
  copy_->Finish();
}

class FleecingStressTest : public FleecingTest, public ::testing::WithParamInterface<SyncAlso> {};

TEST_P(FleecingStressTest, ReadersSeeTheDiskAsItWasWhateverGuestsDo) {
  MakeCopy(GetParam(), &SystemClock());
  source_->turn_count = 300;
  std::atomic<bool> stop = false;
  std::atomic<int> wrong_reads = 0;
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 2; ++seed) {
    threads.emplace_back([this, &stop, seed] {
      std::mt19937_64 random(seed);
      while (!stop.load()) {
        const uint64_t offset = random() % kSize;
        const Range range{offset, std::min(kSize - offset, 1 + random() % (2 * kCluster))};
        if (random() % 4 == 0) {
          ASSERT_TRUE(guest_disk_->WriteZeroes(range, {}).ok());
        } else {
          GuestWrites(range);
        }
      }
    });
  }
  std::thread stepper([this, &stop] {
    while (!stop.load()) {
      const absl::StatusOr<StepResult> result = copy_->Step(kCluster);
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->next == StepResult::Next::kDone) return;
      std::this_thread::yield();
    }
  });
  std::mt19937_64 random(99);
  for (int i = 0; i < 60; ++i) {
    const uint64_t offset = random() % (kSize / 2);
    const Range range{offset, kSize / 2};
    if (ReadText(target_.get(), range) != before_.substr(offset, kSize / 2)) ++wrong_reads;
    // What is said to be zero was zero.
    for (Range rest = range; !rest.empty();) {
      const absl::StatusOr<storage::Extent> extent = target_->Map(rest);
      ASSERT_TRUE(extent.ok()) << extent.status();
      const Range part = extent->range;
      const bool zero = extent->content == storage::Extent::Content::kZero;
      if (zero && before_.compare(part.offset_bytes, part.length_bytes,
                                  std::string(part.length_bytes, '\0')) != 0) {
        ++wrong_reads;
      }
      rest = Range::FromTo(part.end_bytes(), rest.end_bytes());
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  stepper.join();
  EXPECT_EQ(wrong_reads, 0);
  EXPECT_TRUE(copy_->lost().ok()) << copy_->lost();
  copy_->Drain();
  copy_->Finish();
}

INSTANTIATE_TEST_SUITE_P(Fleecing, FleecingStressTest,
                         ::testing::Values(SyncAlso::kNothing, SyncAlso::kTheRest),
                         [](const ::testing::TestParamInfo<SyncAlso>& info) {
                           return info.param == SyncAlso::kNothing ? "GuestWritesOnly" : "Full";
                         });

}  // namespace
}  // namespace tidemark::copy
