#include "adapters/qmp/io_loop.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::ElementsAre;

// Two connected sockets.
struct Pair {
  Pair() { EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0); }
  ~Pair() {
    for (int end : ends) close(end);
  }
  int ends[2];
};

char Take(int fd) {
  char byte = 0;
  EXPECT_EQ(read(fd, &byte, 1), 1);
  return byte;
}

// Runs `task` on the loop's thread and waits for it.
void RunOn(IoLoop& loop, std::function<void()> task) {
  Notification ran;
  loop.Post([&] {
    task();
    ran.Notify();
  });
  ran.Wait();
}

TEST(IoLoopTest, PostedTasksRunOnItsThreadInTheirOrder) {
  IoLoop loop;
  std::vector<int> order;
  EXPECT_FALSE(loop.OnLoopThread());
  RunOn(loop, [&] {
    for (int i = 0; i < 3; ++i) {
      loop.Post([&, i] {
        EXPECT_TRUE(loop.OnLoopThread());
        order.push_back(i);
        loop.Post([&, i] { order.push_back(10 + i); });
      });
    }
  });
  RunOn(loop, [] {});
  RunOn(loop, [] {});
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 10, 11, 12));
}

TEST(IoLoopTest, ItsEndRunsWhatWasPostedAndDropsTheRest) {
  bool ran = false;
  bool timer_ran = false;
  const auto owned = std::make_shared<int>(1);
  {
    IoLoop loop;
    loop.RunAfter(absl::Hours(1), [&, owned] { timer_ran = true; });
    loop.Post([&] { loop.Post([&] { ran = true; }); });
  }
  EXPECT_TRUE(ran);
  EXPECT_FALSE(timer_ran);
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(IoLoopTest, TimersOfTheSameDelayRunInTheOrderTheyWereSet) {
  IoLoop loop;
  std::vector<int> order;
  Notification last;
  for (int i = 0; i < 3; ++i) {
    loop.RunAfter(absl::Milliseconds(1), [&, i] {
      order.push_back(i);
      if (i == 2) last.Notify();
    });
  }
  last.Wait();
  EXPECT_THAT(order, ElementsAre(0, 1, 2));
}

TEST(IoLoopTest, ACancelledTimerLetsGoOfItsTaskAtOnce) {
  IoLoop loop;
  const auto owned = std::make_shared<int>(1);
  const IoLoop::TimerId timer = loop.RunAfter(absl::Hours(1), [owned] {});
  EXPECT_EQ(owned.use_count(), 2);
  EXPECT_TRUE(loop.Cancel(timer));
  EXPECT_EQ(owned.use_count(), 1);
  EXPECT_FALSE(loop.Cancel(timer));
}

TEST(IoLoopTest, AnEarlierTimerIsNotHeldUpByALaterOne) {
  IoLoop loop;
  loop.RunAfter(absl::Hours(1), [] {});
  Notification ran;
  loop.RunAfter(absl::Milliseconds(1), [&] { ran.Notify(); });
  EXPECT_TRUE(ran.WaitFor(absl::Minutes(1)));
}

TEST(IoLoopTest, AReadableDescriptorIsToldUntilItIsRead) {
  IoLoop loop;
  Pair pair;
  int calls = 0;
  Notification read_all;
  const auto watch = loop.Watch(pair.ends[0], EPOLLIN, [&](uint32_t ready) {
    EXPECT_NE(ready & EPOLLIN, 0U);
    // Read only the second time.
    if (++calls == 2) {
      EXPECT_EQ(Take(pair.ends[0]), 'x');
      read_all.Notify();
    }
  });
  ASSERT_EQ(write(pair.ends[1], "x", 1), 1);
  EXPECT_TRUE(read_all.WaitFor(absl::Minutes(1)));
  RunOn(loop, [&] { loop.Unwatch(watch); });
  EXPECT_EQ(calls, 2);
}

TEST(IoLoopTest, AWatchWithoutInterestIsNotToldEvenOfTheEnd) {
  IoLoop loop;
  Pair pair;
  std::atomic<int> calls = 0;
  Notification told;
  IoLoop::WatchId watch;
  RunOn(loop, [&] {
    watch = loop.Watch(pair.ends[0], EPOLLIN, [&](uint32_t) {
      ++calls;
      loop.Unwatch(watch);
      told.Notify();
    });
    loop.SetInterest(watch, 0);
  });
  shutdown(pair.ends[1], SHUT_RDWR);
  for (int i = 0; i < 3; ++i) RunOn(loop, [] {});
  EXPECT_EQ(calls, 0);
  loop.SetInterest(watch, EPOLLIN);
  EXPECT_TRUE(told.WaitFor(absl::Minutes(1)));
}

TEST(IoLoopTest, AWatchRemovedOnTheThreadIsNeverCalledAgain) {
  // Both are ready in the same round; whoever comes first removes the other.
  IoLoop loop;
  Pair one, two;
  int calls = 0;
  IoLoop::WatchId watches[2];
  RunOn(loop, [&] {
    for (int i = 0; i < 2; ++i) {
      watches[i] = loop.Watch(i == 0 ? one.ends[0] : two.ends[0], EPOLLIN, [&](uint32_t) {
        ++calls;
        loop.Unwatch(watches[0]);
        loop.Unwatch(watches[1]);
      });
    }
    ASSERT_EQ(write(one.ends[1], "x", 1), 1);
    ASSERT_EQ(write(two.ends[1], "x", 1), 1);
  });
  for (int i = 0; i < 3; ++i) RunOn(loop, [] {});
  EXPECT_EQ(calls, 1);
}

TEST(IoLoopTest, AHandlerIsDestroyedWithItsWatch) {
  IoLoop loop;
  Pair pair;
  const auto owned = std::make_shared<int>(1);
  const auto watch = loop.Watch(pair.ends[0], EPOLLIN, [owned](uint32_t) {});
  loop.Unwatch(watch);
  loop.Unwatch(watch);
  RunOn(loop, [] {});
  EXPECT_EQ(owned.use_count(), 1);
}

TEST(IoLoopTest, ThreadsAddAndRemoveWhileItRuns) {
  IoLoop loop;
  std::atomic<uint64_t> calls = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        Pair pair;
        const auto watch = loop.Watch(pair.ends[0], EPOLLOUT, [&](uint32_t) { ++calls; });
        const auto timer = loop.RunAfter(absl::ZeroDuration(), [&] { ++calls; });
        loop.SetInterest(watch, EPOLLIN);
        loop.Unwatch(watch);
        loop.Cancel(timer);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  RunOn(loop, [] {});
}

TEST(IoLoopTest, HundredsOfDescriptorsAreServed) {
  IoLoop loop;
  constexpr int kCount = 400;
  std::vector<Pair> pairs(kCount);
  std::atomic<int> left = kCount;
  Notification all;
  std::vector<IoLoop::WatchId> watches;
  for (Pair& pair : pairs) {
    watches.push_back(loop.Watch(pair.ends[0], EPOLLIN, [&](uint32_t) {
      Take(pair.ends[0]);
      if (--left == 0) all.Notify();
    }));
  }
  for (Pair& pair : pairs) ASSERT_EQ(write(pair.ends[1], "x", 1), 1);
  EXPECT_TRUE(all.WaitFor(absl::Minutes(1)));
  for (const auto watch : watches) loop.Unwatch(watch);
}

}  // namespace
}  // namespace tidemark::qmp
