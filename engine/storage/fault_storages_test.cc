// The storages that break on demand: failing, slow, crashing; and the one that keeps nothing.
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/error.h"
#include "engine/storage/crashing_storage.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/null_storage.h"
#include "engine/storage/slow_storage.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

ConstBytes AsBytes(const std::string& text) {
  return ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

absl::Status ReadOne(Storage& disk, uint64_t offset_bytes) {
  std::byte byte;
  return disk.Read(offset_bytes, Bytes(&byte, 1));
}

class FailingStorageTest : public testing::Test {
 protected:
  const std::shared_ptr<MemoryStorage> memory_ = std::make_shared<MemoryStorage>(4096);
  FailingStorage disk_{memory_};
  const absl::Status error_ = Error(Reason::kNoSpace, "full");
};

TEST_F(FailingStorageTest, FailsWhatMatchesVerbAndRange) {
  disk_.AddRule({.status = error_, .verb = Verb::kWrite, .range = Range{1024, 512}});
  EXPECT_EQ(disk_.Write(0, AsBytes("ok")), absl::OkStatus());
  EXPECT_EQ(disk_.Write(1023, AsBytes("overlaps")), error_);
  EXPECT_EQ(ReadOne(disk_, 1024), absl::OkStatus());
  EXPECT_EQ(memory_->Contents({1023, 1}), std::string(1, '\0'));
  EXPECT_EQ(disk_.failure_count(), 1);
}

TEST_F(FailingStorageTest, FailsTheThirdOnce) {
  disk_.AddRule({.status = error_, .verb = Verb::kFlush, .pass_count = 2, .fail_count = 1});
  std::vector<bool> results;
  for (int i = 0; i < 5; ++i) results.push_back(disk_.Flush().ok());
  EXPECT_EQ(results, (std::vector<bool>{true, true, false, true, true}));
}

TEST_F(FailingStorageTest, FailsEveryVerbForEverUntilHealed) {
  disk_.AddRule({.status = error_});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ReadOne(disk_, 0), error_);
    EXPECT_EQ(disk_.Write(0, AsBytes("x")), error_);
    EXPECT_EQ(disk_.WriteZeroes({0, 1}), error_);
    EXPECT_EQ(disk_.Discard({0, 1}), error_);
    EXPECT_EQ(disk_.Flush(), error_);
    EXPECT_EQ(disk_.Resize(1), error_);
    EXPECT_EQ(disk_.Map({0, 1}).status(), error_);
    EXPECT_EQ(disk_.PlaceRead({0, 1}).status(), error_);
    EXPECT_EQ(disk_.PlaceWrite({0, 1}).status(), error_);
  }
  disk_.ClearRules();
  EXPECT_EQ(disk_.Write(0, AsBytes("x")), absl::OkStatus());
}

TEST_F(FailingStorageTest, TheFirstRuleInForceDecides) {
  disk_.AddRule({.status = absl::OkStatus(), .range = Range{0, 512}});
  disk_.AddRule({.status = error_});
  EXPECT_EQ(disk_.Write(0, AsBytes("x")), absl::OkStatus());
  EXPECT_EQ(disk_.Write(512, AsBytes("x")), error_);
}

TEST(SlowStorage, HoldsRequestsUntilLetGoOneByOne) {
  const auto memory = std::make_shared<MemoryStorage>(4096);
  SlowStorage disk(memory);
  disk.Hold(Verb::kWrite);
  std::atomic<int> done = 0;
  std::vector<std::thread> writers;
  for (int i = 0; i < 3; ++i) {
    writers.emplace_back([&, i] {
      EXPECT_EQ(disk.Write(i, AsBytes("x")), absl::OkStatus());
      ++done;
    });
  }
  disk.AwaitHeld(3);
  EXPECT_EQ(done, 0);
  EXPECT_EQ(ReadOne(disk, 0), absl::OkStatus());  // Another verb passes.
  EXPECT_EQ(memory->Contents(), std::string(4096, '\0'));
  disk.LetGo();
  while (disk.held_count() == 3) std::this_thread::yield();
  EXPECT_EQ(disk.held_count(), 2);
  disk.Release();
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(done, 3);
  EXPECT_EQ(disk.Write(3, AsBytes("x")), absl::OkStatus());  // Held no more.
  EXPECT_EQ(memory->Contents({0, 5}), std::string("xxxx\0", 5));
}

TEST(SlowStorage, LetsGoWhatIsYetToCome) {
  SlowStorage disk(std::make_shared<MemoryStorage>(4096));
  disk.Hold();
  disk.LetGo(2);
  EXPECT_EQ(disk.Flush(), absl::OkStatus());
  EXPECT_EQ(ReadOne(disk, 0), absl::OkStatus());
  EXPECT_EQ(disk.held_count(), 0);
}

TEST(CrashingStorage, FlushedWritesSurviveEveryCrash) {
  CrashingStorage disk{MemoryStorage(4096)};
  ASSERT_EQ(disk.Write(100, AsBytes("durable")), absl::OkStatus());
  ASSERT_EQ(disk.Flush(), absl::OkStatus());
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(disk.Crash(seed)->Contents({100, 7}), "durable");
  }
}

TEST(CrashingStorage, UnsyncedWritesArriveWhollyOrTornOrNotInAnyOrder) {
  CrashingStorage disk{MemoryStorage(8192)};
  ASSERT_EQ(disk.Write(0, AsBytes(std::string(1024, 'a'))), absl::OkStatus());
  ASSERT_EQ(disk.Write(4096, AsBytes("b")), absl::OkStatus());
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const auto crashed = disk.Crash(seed);
    const std::string first = crashed->Contents({0, 512});
    const std::string second = crashed->Contents({512, 512});
    // A sector is whole.
    for (const std::string& sector : {first, second}) {
      EXPECT_TRUE(sector == std::string(512, 'a') || sector == std::string(512, '\0'));
    }
    seen.insert({first[0] ? 'a' : '-', second[0] ? 'a' : '-',
                 crashed->Contents({4096, 1}) == "b" ? 'b' : '-'});
    EXPECT_EQ(crashed->Contents(), disk.Crash(seed)->Contents());
  }
  // Every combination is possible, the later write before the earlier one too.
  EXPECT_EQ(seen.size(), 8u);
}

TEST(CrashingStorage, TheExtremesAreNothingAndEverything) {
  CrashingStorage disk(*MemoryStorage::Of("old"));
  ASSERT_EQ(disk.Write(0, AsBytes("newer")), absl::OkStatus());
  EXPECT_EQ(disk.CrashLosingAll()->Contents(), "old");
  EXPECT_EQ(disk.CrashLosingNothing()->Contents(), "newer");
  // It lives on.
  ASSERT_EQ(disk.Flush(), absl::OkStatus());
  EXPECT_EQ(disk.CrashLosingAll()->Contents(), "newer");
}

TEST(CrashingStorage, SizesMayBeLostToo) {
  CrashingStorage disk{MemoryStorage(512)};
  ASSERT_EQ(disk.Resize(1024), absl::OkStatus());
  std::set<uint64_t> sizes;
  for (uint64_t seed = 0; seed < 50; ++seed) sizes.insert(disk.Crash(seed)->size_bytes());
  EXPECT_EQ(sizes, (std::set<uint64_t>{512, 1024}));
}

TEST(CrashingStorage, FailsFromAChosenChange) {
  CrashingStorage disk{MemoryStorage(4096)};
  disk.set_fail_from(2);
  EXPECT_EQ(disk.Write(0, AsBytes("a")), absl::OkStatus());
  EXPECT_EQ(disk.Flush(), absl::OkStatus());
  EXPECT_EQ(DetailsOf(disk.Write(0, AsBytes("b")))->reason, Reason::kIoError);
  EXPECT_FALSE(disk.Flush().ok());
  EXPECT_EQ(disk.change_count(), 2);
  EXPECT_EQ(disk.CrashLosingNothing()->Contents({0, 1}), "a");
}

TEST(NullStorage, KeepsNothingAndChecksRanges) {
  NullStorage disk(4096);
  EXPECT_EQ(disk.Write(0, AsBytes("gone")), absl::OkStatus());
  std::string text(4, '?');
  EXPECT_EQ(disk.Read(0, Bytes(reinterpret_cast<std::byte*>(text.data()), 4)), absl::OkStatus());
  EXPECT_EQ(text, std::string(4, '\0'));
  EXPECT_EQ(disk.Write(4093, AsBytes("gone")).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk.Map({0, 4097}).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(disk.Resize(8192), absl::OkStatus());
  EXPECT_EQ(disk.Write(4093, AsBytes("gone")), absl::OkStatus());
}

TEST(NullStorage, PromisesZeroesOnlyIfAskedTo) {
  EXPECT_EQ(NullStorage(4096).Map({0, 100})->content, Extent::Content::kData);
  EXPECT_EQ(NullStorage(4096, {.read_zeroes = true}).Map({0, 100})->content,
            Extent::Content::kZero);
}

TEST(NullStorage, ReadOnlyRefusesChanges) {
  NullStorage disk(4096, {.read_only = true});
  for (const absl::Status& status : {disk.Write(0, AsBytes("x")), disk.WriteZeroes({0, 1}),
                                     disk.Discard({0, 1}), disk.Resize(1)}) {
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kNodeReadOnly);
  }
  EXPECT_TRUE(disk.limits().read_only);
}

TEST(MemoryStorage, TakesMemoryForDataOnly) {
  MemoryStorage disk(uint64_t{1} << 50);
  ASSERT_EQ(disk.Write(uint64_t{1} << 49, AsBytes("far")), absl::OkStatus());
  EXPECT_EQ(disk.Contents({uint64_t{1} << 49, 3}), "far");
  EXPECT_TRUE(disk.Map({0, 1 << 20})->hole);
  EXPECT_EQ(disk.Map({uint64_t{1} << 49, 100})->content, Extent::Content::kData);
}

}  // namespace
}  // namespace tidemark::storage
