// Plays every thread of an engine on one thread of the machine, in an order that a seed chooses.
//
// Each played thread is a fiber: a stack of its own. Whenever it takes a lock, waits, begins a
// thread or asks a disk, it comes by here, and another may go on in its place. Time is virtual: it
// creeps with every turn, and leaps to the next alarm when nobody can run. So a run is the same
// each time, and hours of waiting take nothing.
//
// Who can never go on again has found a fault: `stuck()` says where everybody stands.
#ifndef TESTS_SIMULATION_FIBERS_H_
#define TESTS_SIMULATION_FIBERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "engine/base/cooperation.h"
#include "tests/simulation/chance.h"

namespace tidemark::simulation {

// One thread of the machine; not under ThreadSanitizer.
class Fibers final : public Cooperation {
 public:
  struct Options {
    uint64_t seed = 0;
    // One of so many chances to let another go first is taken; 0: none.
    uint64_t switch_one_in = 0;
    // More turns than that are a run that never ends.
    uint64_t turns_max = 20'000'000;
    // Remember where fibers sleep, to tell if they are stuck. Slow.
    bool traces = false;
  };

  explicit Fibers(const Options& options);
  ~Fibers() override;

  // Runs `body` as the first thread until it returns, and all that it began. False if that cannot
  // be: nobody can go on, or it takes too many turns. What the fibers hold is then lost.
  bool Run(std::function<void()> body);
  // Why Run was false, with each fiber's name and where it sleeps.
  const std::string& stuck() const { return stuck_; }

  uint64_t turns() const { return turns_; }
  uint64_t switches() const { return switches_; }
  // The name of the thread that runs.
  const std::string& running_name() const;

  void Yield() override;
  bool Sleep(const void* place, absl::Duration timeout) override;
  void Wake(const void* place, bool all) override;
  uint64_t Spawn(std::string name, std::function<void()> body) override;
  void Join(uint64_t thread) override;
  absl::Duration Elapsed() override { return elapsed_; }

 private:
  struct Fiber;

  static void Enter(unsigned int low, unsigned int high);
  // The running fiber has been put where it waits; somebody else goes on. Returns when it is chosen
  // again.
  void GiveWay();
  Fiber* Choose();
  // True if an alarm was due or could be leapt to.
  bool RingAlarms(bool leap);
  void MakeReady(Fiber* fiber, bool woken);
  void SwitchTo(Fiber* fiber);
  void GiveUp(const std::string& why);

  const Options options_;
  Chance chance_;
  absl::Duration elapsed_ = absl::Seconds(1);
  uint64_t turns_ = 0;
  uint64_t switches_ = 0;
  bool gave_up_ = false;
  std::string stuck_;

  std::vector<std::unique_ptr<Fiber>> fibers_;  // By number.
  std::unique_ptr<Fiber> machine_;              // Who called Run.
  Fiber* running_ = nullptr;
  Fiber* previous_ = nullptr;  // Who ran before.
  std::vector<Fiber*> ready_;
  absl::flat_hash_map<const void*, std::vector<Fiber*>> asleep_;
  std::multimap<absl::Duration, Fiber*> alarms_;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_FIBERS_H_
