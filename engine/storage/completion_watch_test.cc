// One thread that hears of the completions of many queues.
#include "engine/storage/completion_watch.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"
#include "engine/storage/storage_target.h"
#include "engine/storage/uring_queue.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

struct Kind {
  const char* name;
  std::unique_ptr<IoQueue> (*make)(int depth);
};

// Counts what it is told; never sleeps on a clock.
class Counter {
 public:
  void Ring() {
    MutexLock lock(&mutex_);
    ++count_;
    changed_.SignalAll();
  }
  // Waits until it has been rung more than `count` times; how often it has.
  int AwaitMoreThan(int count) {
    MutexLock lock(&mutex_);
    while (count_ <= count) changed_.Wait(&mutex_);
    return count_;
  }
  int count() {
    MutexLock lock(&mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

class CompletionWatchTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    const std::string path = TestPath("watched");
    ASSERT_EQ(CreateFile(path, 1 << 20, Preallocation::kOff), absl::OkStatus());
    file_ = *OpenFile(path, {});
    if (GetParam().make(1) == nullptr) GTEST_SKIP() << "the kernel forbids io_uring here";
  }
  IoQueue::Request Ask(IoTarget* target, uint64_t cookie) {
    return {IoQueue::Operation::kWrite,
            target,
            cookie * text_.size(),
            reinterpret_cast<std::byte*>(text_.data()),
            text_.size(),
            cookie};
  }
  // Reaps only when told, until so many have completed.
  void ReapWhenTold(IoQueue& queue, Counter& bell, size_t count) {
    std::vector<IoQueue::Completion> completions;
    for (int told = 0; completions.size() < count;) {
      told = bell.AwaitMoreThan(told);
      queue.Reap(absl::ZeroDuration(), &completions);
    }
    EXPECT_EQ(queue.in_flight(), 0);
  }

  std::shared_ptr<FileStorage> file_;
  std::string text_ = std::string(4096, 'w');
};

TEST_P(CompletionWatchTest, TellsOfEveryCompletion) {
  CompletionWatch watch;
  const auto queue = GetParam().make(16);
  Counter bell;
  ASSERT_TRUE(watch.Add(queue.get(), [&] { bell.Ring(); }));
  int heard = 0;
  for (int round = 0; round < 20; ++round) {
    for (uint64_t i = 0; i < 16; ++i) queue->Submit(Ask(file_->target(), i));
    std::vector<IoQueue::Completion> completions;
    while (completions.size() < 16) {
      heard = bell.AwaitMoreThan(heard);
      queue->Reap(absl::ZeroDuration(), &completions);
    }
  }
  watch.Remove(queue.get());
}

TEST_P(CompletionWatchTest, TellsOfCallsAndOfRequestsOfNoBytes) {
  CompletionWatch watch;
  const auto queue = GetParam().make(4);
  SlowStorage disk(std::make_shared<MemoryStorage>(1 << 20));
  StorageTarget target(&disk);
  Counter bell;
  ASSERT_TRUE(watch.Add(queue.get(), [&] { bell.Ring(); }));
  disk.Hold();
  queue->Submit(Ask(&target, 1));
  disk.AwaitHeld(1);
  EXPECT_EQ(bell.count(), 0);
  disk.Release();
  ReapWhenTold(*queue, bell, 1);
  IoQueue::Request nothing = Ask(file_->target(), 2);
  nothing.length_bytes = 0;
  const int before = bell.count();
  queue->Submit(nothing);
  bell.AwaitMoreThan(before);
  std::vector<IoQueue::Completion> completions;
  queue->Reap(absl::ZeroDuration(), &completions);
  EXPECT_EQ(completions.size(), 1u);
  watch.Remove(queue.get());
}

TEST_P(CompletionWatchTest, WatchesManyQueuesAndForgetsThoseThatGo) {
  CompletionWatch watch;
  constexpr int kQueues = 50;
  std::vector<std::unique_ptr<IoQueue>> queues;
  std::vector<std::unique_ptr<Counter>> bells;
  for (int i = 0; i < kQueues; ++i) {
    queues.push_back(GetParam().make(2));
    bells.push_back(std::make_unique<Counter>());
    ASSERT_TRUE(watch.Add(queues[i].get(), [bell = bells[i].get()] { bell->Ring(); }));
  }
  for (int i = 0; i < kQueues; i += 2) {
    watch.Remove(queues[i].get());
    queues[i] = nullptr;
  }
  for (int i = 1; i < kQueues; i += 2) queues[i]->Submit(Ask(file_->target(), i));
  for (int i = 1; i < kQueues; i += 2) {
    ReapWhenTold(*queues[i], *bells[i], 1);
    watch.Remove(queues[i].get());
  }
  for (int i = 0; i < kQueues; i += 2) EXPECT_EQ(bells[i]->count(), 0);
}

INSTANTIATE_TEST_SUITE_P(Queues, CompletionWatchTest,
                         testing::Values(Kind{"Uring", &MakeUringQueue},
                                         Kind{"Threads", &MakeThreadIoQueue}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tidemark::storage
