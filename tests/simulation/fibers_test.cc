#include "tests/simulation/fibers.h"

#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"
#include "gtest/gtest.h"

namespace tidemark::simulation {
namespace {

// Two threads that write down their turns.
std::string Turns(uint64_t seed, uint64_t switch_one_in) {
  std::string turns;
  Fibers fibers({.seed = seed, .switch_one_in = switch_one_in});
  EXPECT_TRUE(fibers.Run([&] {
    Mutex mutex;
    const auto write = [&](char letter) {
      for (int i = 0; i < 20; ++i) {
        MutexLock lock(&mutex);
        turns += letter;
      }
    };
    Thread a("a", [&] { write('a'); });
    Thread b("b", [&] { write('b'); });
    a.Join();
    b.Join();
  }));
  return turns;
}

TEST(Fibers, TheSameSeedGivesTheSameOrderAndAnotherAnother) {
  EXPECT_EQ(Turns(1, 3), Turns(1, 3));
  EXPECT_NE(Turns(1, 3), Turns(2, 3));
  EXPECT_EQ(Turns(1, 3).size(), 40u);
  EXPECT_EQ(Turns(1, 0), std::string(20, 'a') + std::string(20, 'b'));
}

TEST(Fibers, HoursOfWaitingTakeNoTime) {
  Fibers fibers({.seed = 1, .switch_one_in = 3});
  EXPECT_TRUE(fibers.Run([] {
    Mutex mutex;
    CondVar never;
    const absl::Duration begin = SystemClock().Elapsed();
    MutexLock lock(&mutex);
    EXPECT_FALSE(never.WaitFor(&mutex, absl::Minutes(59)));
    EXPECT_GE(SystemClock().Elapsed() - begin, absl::Minutes(59));
  }));
}

TEST(Fibers, APoolRunsWhatIsPostedLater) {
  Fibers fibers({.seed = 1, .switch_one_in = 3});
  std::vector<int> ran;
  EXPECT_TRUE(fibers.Run([&] {
    SerialExecutor executor("serial");
    Mutex mutex;
    CondVar changed;
    executor.PostAfter(absl::Seconds(5), [&] {
      MutexLock lock(&mutex);
      ran.push_back(2);
      changed.SignalAll();
    });
    executor.Post([&] {
      MutexLock lock(&mutex);
      ran.push_back(1);
    });
    MutexLock lock(&mutex);
    while (ran.size() < 2) changed.Wait(&mutex);
  }));
  EXPECT_EQ(ran, (std::vector<int>{1, 2}));
}

TEST(Fibers, WhoWaitForOneAnotherAreFoundAndNamed) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "what those who are given up hold is lost with them";
#endif
  Fibers& fibers = *new Fibers({.seed = 1, .switch_one_in = 1});
  Mutex first;
  Mutex second;
  EXPECT_FALSE(fibers.Run([&] {
    const auto take = [](Mutex* one, Mutex* other) {
      one->Lock();
      for (int i = 0; i < 100; ++i) Cooperation::current()->Yield();
      MutexLock lock(other);
    };
    Thread a("anna", [&] { take(&first, &second); });
    Thread b("bert", [&] { take(&second, &first); });
    a.Join();
    b.Join();
  }));
  EXPECT_NE(fibers.stuck().find("nobody can go on"), std::string::npos) << fibers.stuck();
  EXPECT_NE(fibers.stuck().find("anna sleeps"), std::string::npos) << fibers.stuck();
  EXPECT_NE(fibers.stuck().find("bert sleeps"), std::string::npos) << fibers.stuck();
}

TEST(Fibers, WhatNeverEndsIsGivenUp) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "what those who are given up hold is lost with them";
#endif
  Fibers& fibers = *new Fibers({.seed = 1, .switch_one_in = 2, .turns_max = 1000});
  EXPECT_FALSE(fibers.Run([&] {
    Thread other("other", [] {
      for (;;) Cooperation::current()->Yield();
    });
    other.Join();
  }));
  EXPECT_NE(fibers.stuck().find("it does not end"), std::string::npos) << fibers.stuck();
}

}  // namespace
}  // namespace tidemark::simulation
