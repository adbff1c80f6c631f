#include "engine/base/cooperation.h"

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

// Writes down what it is asked. Threads run when they are joined, and sleeps end at once.
class Recorder final : public Cooperation {
 public:
  Recorder() { SetCurrent(this); }
  ~Recorder() override { SetCurrent(nullptr); }

  void Yield() override { asked.push_back("yield"); }
  bool Sleep(const void*, absl::Duration timeout) override {
    asked.push_back("sleep");
    elapsed += timeout == absl::InfiniteDuration() ? absl::ZeroDuration() : timeout;
    return timeout == absl::InfiniteDuration();
  }
  void Wake(const void*, bool all) override { asked.push_back(all ? "wake all" : "wake"); }
  uint64_t Spawn(std::string name, std::function<void()> body) override {
    asked.push_back("spawn " + name);
    bodies.push_back(std::move(body));
    return bodies.size() - 1;
  }
  void Join(uint64_t thread) override {
    asked.push_back("join");
    bodies[thread]();
  }
  absl::Duration Elapsed() override { return elapsed; }

  std::vector<std::string> asked;
  std::vector<std::function<void()>> bodies;
  absl::Duration elapsed;
};

using Asked = std::vector<std::string>;

TEST(Cooperation, NobodyPlaysAThreadOfTheMachine) {
  EXPECT_EQ(Cooperation::current(), nullptr);
  const Recorder recorder;
  EXPECT_EQ(Cooperation::current(), &recorder);
  Cooperation* seen = Cooperation::current();
  std::thread([&seen] { seen = Cooperation::current(); }).join();
  EXPECT_EQ(seen, nullptr);
}

TEST(Cooperation, IsAskedBeforeALockAndToldOfTheUnlock) {
  Recorder recorder;
  Mutex mutex;
  { MutexLock lock(&mutex); }
  EXPECT_EQ(recorder.asked, (Asked{"yield", "wake"}));
}

TEST(Cooperation, AWaitGivesTheLockBackAndTakesItAgain) {
  Recorder recorder;
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  recorder.asked.clear();
  changed.Wait(&mutex);
  EXPECT_EQ(recorder.asked, (Asked{"wake", "sleep", "yield"}));
  EXPECT_FALSE(mutex.TryLock());
}

TEST(Cooperation, ATimedWaitIsMeasuredByItsClock) {
  Recorder recorder;
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  EXPECT_FALSE(changed.WaitFor(&mutex, absl::Seconds(7)));
  EXPECT_EQ(SystemClock().Elapsed(), absl::Seconds(7));
  EXPECT_EQ(SystemClock().Now(), absl::UnixEpoch() + absl::Seconds(7));
}

TEST(Cooperation, BeginsTheThreadsOfAPool) {
  Recorder recorder;
  bool ran = false;
  {
    WorkerPool pool("pool", 2);
    pool.Post([&ran] { ran = true; });
    EXPECT_FALSE(ran);
    recorder.asked.clear();
  }
  EXPECT_TRUE(ran);
}

}  // namespace
}  // namespace tidemark
