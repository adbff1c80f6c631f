// A qcow2 target whose file hangs while the image places what is to be written, or makes what was
// written part of itself: whoever steps the copy and whoever writes the source waits for neither.
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/copy/copier.h"
#include "engine/copy/copier_world.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/completion_watch.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/slow_storage.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using storage::Placement;
using storage::SlowStorage;
using storage::Storage;

// Clusters so large that their tables have several slices: a new one is then made in the file, by
// the Finish that is the first to need it.
constexpr uint64_t kTargetCluster = 128 * 1024;
constexpr uint64_t kSize = 64 * kTargetCluster;

// Knows which calls for placements are under way.
class PlacingWitness final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    ++placing;
    absl::StatusOr<std::unique_ptr<Placement>> placement = next().PlaceWrite(range);
    --placing;
    if (!placement.ok() || *placement == nullptr) return placement;
    return std::make_unique<Watched>(this, *std::move(placement));
  }

  std::atomic<int> placing = 0;
  std::atomic<int> finishing = 0;

 private:
  class Watched final : public Placement {
   public:
    Watched(PlacingWitness* witness, std::unique_ptr<Placement> next)
        : witness_(*witness), next_(std::move(next)) {
      pieces_ = next_->pieces();
    }
    absl::Status Finish() override {
      ++witness_.finishing;
      const absl::Status status = next_->Finish();
      --witness_.finishing;
      return status;
    }

   private:
    PlacingWitness& witness_;
    const std::unique_ptr<Placement> next_;
  };
};

class CopierPlacingTest : public ::testing::Test {
 protected:
  // A target in a file that can be held. With a table: one cluster was written before.
  void MakeTarget(bool with_table) {
    const std::string path = absl::StrCat(::testing::TempDir(), "/placing-", getpid());
    ASSERT_TRUE(storage::CreateFile(path, 0, storage::Preallocation::kOff).ok());
    auto file = storage::OpenFile(path, {});
    ASSERT_TRUE(file.ok()) << file.status();
    unlink(path.c_str());
    ASSERT_TRUE(
        qcow2::Create(**file, {.size_bytes = kSize, .cluster_size_bytes = kTargetCluster}).ok());
    file_ = std::make_shared<SlowStorage>(*file);
    if (with_table) {
      OpenTarget();
      ASSERT_TRUE(image_->Write(0, AsBytes(Pattern(kTargetCluster, 7)), {}).ok());
      ASSERT_TRUE(image_->Close().ok());
    }
    OpenTarget();
  }
  void OpenTarget() {
    image_ = nullptr;
    auto image = qcow2::Image::Open(file_, {});
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    target_ = std::make_shared<PlacingWitness>(image_);
  }

  void MakeCopy() {
    auto to_copy = std::make_unique<bitmap::DirtyBitmap>(kSize, kTargetCluster);
    to_copy->SetAll();
    CopyOptions options;
    options.cluster_bytes = kTargetCluster;
    copy_ = BlockCopy::Make(source_, target_, std::move(to_copy), options,
                            {.guest = &guest_workers_, .io = &io_workers_, .watch = watch_},
                            &SystemClock());
    copy_->set_waker([] {});
  }

  void Step() {
    const absl::StatusOr<StepResult> result = copy_->Step(kUnlimited);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_FALSE(result->io_error.has_value()) << result->io_error->status;
    is_done_ = result->next == StepResult::Next::kDone;
  }

  // A guest overwrites the disk from end to end while `hangs` calls of the target hang: those
  // clusters that are on their way there, those that are claimed, and those that nobody has begun
  // with. Steps go on meanwhile, on this thread: where one waited for the target, this would hang.
  void ExpectNobodyWaits(const std::atomic<int>& hangs) {
    while (hangs == 0) Step();
    file_->AwaitHeld(1);
    Notification wrote;
    std::thread guest([this, &wrote] {
      for (uint64_t at = 0; at < kSize; at += kTargetCluster) {
        EXPECT_TRUE(copy_->Capture({at, kTargetCluster}).ok());
        EXPECT_TRUE(memory_->Write(at, AsBytes(Pattern(kTargetCluster, 2)), {}).ok());
      }
      wrote.Notify();
    });
    // Long enough for any machine; only a test that fails waits so long.
    const absl::Duration end = SystemClock().Elapsed() + absl::Seconds(60);
    bool is_over = false;
    while (!(is_over = wrote.WaitFor(absl::ZeroDuration())) && SystemClock().Elapsed() < end) {
      Step();
    }
    EXPECT_TRUE(is_over) << "the guest waits for the target";
    EXPECT_GT(hangs, 0) << "nothing hangs any more";
    EXPECT_TRUE(copy_->lost().ok()) << copy_->lost();
    file_->Release();
    guest.join();
    while (!is_done_) Step();
    copy_->Finish();
    std::string copied(kSize, '\0');
    ASSERT_TRUE(
        image_->Read(0, storage::Bytes(reinterpret_cast<std::byte*>(copied.data()), copied.size()))
            .ok());
    EXPECT_TRUE(copied == before_);
  }

  const std::string before_ = Pattern(kSize, 1);
  std::shared_ptr<MemoryStorage> memory_ = MemoryStorage::Of(before_);
  std::shared_ptr<Storage> source_ = memory_;
  std::shared_ptr<SlowStorage> file_;
  std::shared_ptr<qcow2::Image> image_;
  std::shared_ptr<PlacingWitness> target_;
  WorkerPool guest_workers_{"guest", 2};
  WorkerPool io_workers_{"io", 4};
  std::shared_ptr<storage::CompletionWatch> watch_ = std::make_shared<storage::CompletionWatch>();
  std::shared_ptr<BlockCopy> copy_;
  bool is_done_ = false;
};

TEST_F(CopierPlacingTest, NobodyWaitsForATargetThatPlaces) {
  MakeTarget(/*with_table=*/true);
  MakeCopy();
  // To know where a cluster lies the image reads its table.
  file_->Hold(Verb::kRead);
  ExpectNobodyWaits(target_->placing);
}

TEST_F(CopierPlacingTest, NobodyWaitsForATargetThatMakesWhatWasWrittenItsOwn) {
  MakeTarget(/*with_table=*/false);
  MakeCopy();
  // Data goes by as writes. What is zeroed is the new table.
  file_->Hold(Verb::kWriteZeroes);
  ExpectNobodyWaits(target_->finishing);
}

}  // namespace
}  // namespace tidemark::copy
