// The promise of a backup under fire: guests on several threads write, zero and discard anywhere
// while the copy runs; the target must hold what the disk held before the first of them. The model
// is a string.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/copy/copier.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/port.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;
using storage::Storage;
using storage::Verb;

constexpr uint64_t kCluster = 64 * 1024;
constexpr uint64_t kSize = 300 * kCluster + 1536;
constexpr int kGuests = 3;

std::string RandomDisk(std::mt19937_64* random) {
  std::string disk(kSize, '\0');
  // Runs of data and holes.
  for (uint64_t at = 0; at < kSize;) {
    const uint64_t length = std::min<uint64_t>(kSize - at, (*random)() % (8 * kCluster));
    if ((*random)() % 3 != 0) {
      for (uint64_t i = at; i < at + length; i += 8) {
        const uint64_t word = (*random)();
        std::memcpy(&disk[i], &word, std::min<uint64_t>(8, at + length - i));
      }
    }
    at += length;
  }
  return disk;
}

storage::ConstBytes AsBytes(const std::string& text) {
  return storage::ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

std::string Contents(Storage* disk) {
  std::string contents(disk->size_bytes(), '\0');
  EXPECT_TRUE(
      disk->Read(0, storage::Bytes(reinterpret_cast<std::byte*>(contents.data()), contents.size()))
          .ok());
  return contents;
}

// This thread is a guest's.
thread_local bool is_guest = false;

// The background's reads last until guests have written a few times more: they take over what it
// has claimed.
class OvertakenStorage final : public storage::ForwardingStorage {
 public:
  OvertakenStorage(std::shared_ptr<Storage> next, const std::atomic<uint64_t>* guest_writes)
      : ForwardingStorage(std::move(next)), guest_writes_(*guest_writes) {}
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    const uint64_t until = guest_writes_.load() + 10;
    while (!is_guest && guest_writes_.load() < until) std::this_thread::yield();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }

 private:
  const std::atomic<uint64_t>& guest_writes_;
};

// How the two disks are made: by blocking verbs only, or by placements and batch I/O.
enum class Kind { kMemory, kFile, kQcow2 };

struct Scenario {
  const char* name;
  Kind source;
  Kind target;
  bool errors = false;
  bool write_through = false;
  bool stop_halfway = false;
  bool overtaken = false;
};

class CopierStressTest : public ::testing::TestWithParam<Scenario> {
 protected:
  std::shared_ptr<Storage> MakeDisk(Kind kind, const std::string& name) {
    if (kind == Kind::kMemory) return std::make_shared<MemoryStorage>(kSize);
    const std::string path = absl::StrCat(::testing::TempDir(), "/", name, "-", getpid());
    EXPECT_TRUE(storage::CreateFile(path, kSize, storage::Preallocation::kOff).ok());
    auto file = storage::OpenFile(path, {.discard_unmaps = true});
    EXPECT_TRUE(file.ok()) << file.status();
    unlink(path.c_str());
    if (kind == Kind::kFile) return *file;
    EXPECT_TRUE(qcow2::Create(**file, {.size_bytes = kSize}).ok());
    auto image = qcow2::Image::Open(*file, {.discard_unmaps = true});
    EXPECT_TRUE(image.ok()) << image.status();
    return *std::move(image);
  }

  void Guest(Storage* disk, uint64_t seed) {
    is_guest = true;
    std::mt19937_64 random(seed);
    while (!guests_stop_.load()) {
      const uint64_t offset = random() % kSize;
      const uint64_t length_max = random() % 4 == 0 ? 3 * kCluster : 8192;
      const Range range{offset, std::min(kSize - offset, 1 + random() % length_max)};
      switch (random() % 6) {
        case 0:
          ASSERT_TRUE(disk->WriteZeroes(range, {}).ok());
          break;
        case 1:
          ASSERT_TRUE(disk->Discard(range).ok());
          break;
        default:
          ASSERT_TRUE(
              disk->Write(offset, AsBytes(std::string(range.length_bytes, random() % 255 + 1)), {})
                  .ok());
      }
      ++guest_writes_;
    }
  }

  std::atomic<bool> guests_stop_ = false;
  std::atomic<uint64_t> guest_writes_ = 0;
};

TEST_P(CopierStressTest, TheTargetHoldsTheDiskAsItWasAtTheStart) {
  const Scenario& scenario = GetParam();
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    guests_stop_ = false;
    WorkerPool guest_workers("guest", 2);
    WorkerPool io_workers("io", 3);
    const std::string before = RandomDisk(&random);
    const std::shared_ptr<Storage> source = MakeDisk(scenario.source, "source");
    std::shared_ptr<Storage> target = MakeDisk(scenario.target, "target");
    ASSERT_TRUE(source->Write(0, AsBytes(before), {}).ok());
    const std::shared_ptr<Storage> target_below = target;
    auto bad_target = std::make_shared<FailingStorage>(target);
    if (scenario.errors) {
      bad_target->AddRule({.status = absl::UnknownError("bad"),
                           .verb = Verb::kWrite,
                           .pass_count = static_cast<int>(random() % 8),
                           .fail_count = 8});
      bad_target->AddRule({.status = absl::UnknownError("bad"),
                           .verb = Verb::kWriteZeroes,
                           .pass_count = static_cast<int>(random() % 4),
                           .fail_count = 4});
      target = bad_target;
    }
    auto bits = std::make_unique<bitmap::DirtyBitmap>(kSize, kCluster);
    bits->SetAll();
    std::shared_ptr<Storage> copied = source;
    if (scenario.overtaken) copied = std::make_shared<OvertakenStorage>(source, &guest_writes_);
    const std::shared_ptr<BlockCopy> copy = BlockCopy::Make(
        graph::Port::Create(copied), graph::Port::Create(target), std::move(bits),
        {.write_through = scenario.write_through}, {&guest_workers, &io_workers}, &SystemClock());
    const auto filter =
        std::make_shared<graph::CopyBeforeWriteStorage>(graph::Port::Create(source), copy);
    std::vector<std::thread> guests;
    for (int i = 0; i < kGuests; ++i) {
      guests.emplace_back([this, &filter, seed, i] { Guest(filter.get(), seed * 100 + i); });
    }
    const uint64_t writes_at_begin = guest_writes_.load();
    // Guests are well under way before the background begins.
    while (guest_writes_.load() < writes_at_begin + 20) std::this_thread::yield();
    std::thread stopper([&copy, &scenario] {
      while (scenario.stop_halfway && copy->progress().current_bytes < kSize / 2) {
        std::this_thread::yield();
      }
      if (scenario.stop_halfway) copy->Stop();
    });
    int errors = 0;
    for (;;) {
      // Now and then with a budget, which leaves nothing in flight.
      const absl::StatusOr<StepResult> result =
          copy->Step(random() % 4 == 0 ? random() % (4 << 20) : ~uint64_t{0});
      if (scenario.stop_halfway && !result.ok()) break;
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->io_error.has_value()) ++errors;
      if (random() % 50 == 0) copy->Drain();
      if (result->next == StepResult::Next::kDone) break;
    }
    stopper.join();
    guests_stop_ = true;
    for (std::thread& guest : guests) guest.join();
    copy->Drain();
    copy->Finish();
    ASSERT_TRUE(copy->lost().ok()) << copy->lost();
    if (scenario.errors) {
      EXPECT_GT(errors, 0);
    }
    const std::string after = Contents(target_below.get());
    if (!scenario.stop_halfway) {
      EXPECT_TRUE(copy->not_copied().IsEmpty());
      EXPECT_EQ(copy->progress(), (Progress{kSize, kSize}));
    }
    for (uint64_t at = 0; at < kSize; at += kCluster) {
      if (copy->not_copied().IsDirty(at)) continue;
      ASSERT_TRUE(after.compare(at, kCluster, before, at, kCluster) == 0)
          << "cluster at " << at << " is not as it was";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Copier, CopierStressTest,
    ::testing::Values(
        Scenario{.name = "Blocking", .source = Kind::kMemory, .target = Kind::kMemory},
        Scenario{.name = "Placed", .source = Kind::kFile, .target = Kind::kFile},
        Scenario{.name = "Qcow2", .source = Kind::kQcow2, .target = Kind::kQcow2},
        Scenario{.name = "PlacedToBlocking", .source = Kind::kFile, .target = Kind::kMemory},
        Scenario{.name = "BlockingToPlaced", .source = Kind::kMemory, .target = Kind::kFile},
        Scenario{
            .name = "WithErrors", .source = Kind::kMemory, .target = Kind::kMemory, .errors = true},
        Scenario{.name = "WriteThrough",
                 .source = Kind::kMemory,
                 .target = Kind::kMemory,
                 .write_through = true},
        Scenario{.name = "Overtaken",
                 .source = Kind::kMemory,
                 .target = Kind::kMemory,
                 .overtaken = true},
        Scenario{.name = "OvertakenWriteThrough",
                 .source = Kind::kMemory,
                 .target = Kind::kQcow2,
                 .write_through = true,
                 .overtaken = true},
        Scenario{.name = "Stopped",
                 .source = Kind::kMemory,
                 .target = Kind::kMemory,
                 .stop_halfway = true},
        Scenario{.name = "StoppedPlaced",
                 .source = Kind::kFile,
                 .target = Kind::kFile,
                 .stop_halfway = true}),
    [](const ::testing::TestParamInfo<Scenario>& info) { return std::string(info.param.name); });

// Closing a port waits until nothing is in flight: also nothing of a copy that keeps much in
// flight.
TEST(CopierAtGates, ACopyLetsThePortsBeClosedAndGoesOnWhenTheyOpen) {
  WorkerPool guest_workers("guest", 1);
  WorkerPool io_workers("io", 2);
  const std::string path = absl::StrCat(::testing::TempDir(), "/gated-", getpid());
  std::vector<std::shared_ptr<Storage>> disks;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(storage::CreateFile(path, 64 << 20, storage::Preallocation::kOff).ok());
    auto file = storage::OpenFile(path, {});
    ASSERT_TRUE(file.ok());
    unlink(path.c_str());
    disks.push_back(*file);
  }
  const std::string before(64 << 20, 'x');
  ASSERT_TRUE(disks[0]->Write(0, AsBytes(before), {}).ok());
  const auto source = graph::Port::Create(disks[0]);
  const auto target = graph::Port::Create(disks[1]);
  auto bits = std::make_unique<bitmap::DirtyBitmap>(before.size(), kCluster);
  bits->SetAll();
  const std::shared_ptr<BlockCopy> copy = BlockCopy::Make(
      source, target, std::move(bits), {}, {&guest_workers, &io_workers}, &SystemClock());
  std::atomic<bool> done = false;
  std::thread stepper([&copy, &done] {
    for (;;) {
      const absl::StatusOr<StepResult> result = copy->Step(~uint64_t{0});
      ASSERT_TRUE(result.ok());
      if (result->next == StepResult::Next::kDone) break;
    }
    done = true;
  });
  int closings = 0;
  do {
    source->Close();
    source->Open();
    target->Close();
    target->Open();
    ++closings;
  } while (!done.load());
  stepper.join();
  EXPECT_GT(closings, 0);
  EXPECT_EQ(Contents(disks[1].get()), before);
}

}  // namespace
}  // namespace tidemark::copy
