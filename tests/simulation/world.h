// One world: a machine with disks, guests that write to them, operators that back them up, a
// meddler who pauses and cancels, faults, and perhaps a loss of power; all of it chosen by a seed,
// and judged by models while it runs and when it is over.
#ifndef TESTS_SIMULATION_WORLD_H_
#define TESTS_SIMULATION_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/ledger.h"
#include "tests/simulation/machine.h"
#include "tests/simulation/virtual_disk.h"

namespace tidemark::simulation {

class Operator;

struct WorldOptions {
  uint64_t seed = 1;
  // What is left out of it: "fault2", "guest1", "operation0.3", "meddling", "power", "switches".
  std::set<std::string> without;
  // Tell what happens.
  bool tells = false;
};

// What worlds have done, all together.
struct WorldCounts {
  uint64_t turns = 0;
  uint64_t requests = 0;
  uint64_t calls = 0;
  uint64_t backups = 0;
  uint64_t good_backups = 0;
  uint64_t errors = 0;
  uint64_t power_losses = 0;
};

// Ends the process (Fail) if anything is wrong. `part` is told what can be left out of it.
void RunWorld(const WorldOptions& options, std::function<void(const std::string&)> part,
              WorldCounts* counts);

// For the parts of a world.
class World {
 public:
  World(const WorldOptions& options, Fibers* fibers, std::function<void(const std::string&)> part,
        WorldCounts* counts);
  ~World();
  void Run();

  Machine& machine() { return machine_; }
  Ledger& ledger() { return ledger_; }
  uint64_t seed() const { return options_.seed; }
  std::vector<std::unique_ptr<VirtualDisk>>& disks() { return disks_; }
  // No more mischief: what has begun is to come to its end.
  bool calm() const { return calm_; }
  // The power has failed: what is asked now need not be answered well.
  bool dark() { return !machine_.disks().powered(); }
  // True unless it was left out; tells that it can be.
  bool Has(const std::string& part);
  WorldCounts& counts() { return counts_; }
  // Sleeps.
  void Rest(absl::Duration time);

  // Takes in what has been told since. Any fiber.
  void ReadEvents();
  // Waits until there is more to read, or for a while.
  void AwaitEvents();
  // Waits until the job says that it is concluded or gone. Fails if that takes for ever.
  void AwaitEnd(const std::string& job);

  // Opens the disk as its node.
  absl::Status AddNode(const VirtualDisk& disk);
  // After the disk was closed in order and opened again, its persistent bitmaps are there and true.
  void JudgeStoredBitmaps(const VirtualDisk& disk);

 private:
  void MakeDisks();
  // A raw image with so many writes in it, which are what the disk holds from the beginning.
  void MakeBase(Chance& chance, const std::string& path, uint64_t writes, DiskModel* model);
  void PlanFaults();
  void AddNodes();
  void Turbulence();
  void FinishJobs();
  void AfterPowerLoss();
  void CloseAndLookAgain();
  void JudgeBitmapsAfterPowerLoss(const VirtualDisk& disk);
  void CheckImage(const VirtualDisk& disk);
  std::string ReadAll(VirtualDisk& disk);

  const WorldOptions options_;
  const std::function<void(const std::string&)> part_;
  WorldCounts& counts_;
  Fibers& fibers_;
  Machine machine_;
  Ledger ledger_;
  Mutex reading_mutex_;
  uint64_t events_read_ = 0;
  std::vector<std::unique_ptr<VirtualDisk>> disks_;
  std::vector<std::unique_ptr<Operator>> operators_;
  bool calm_ = false;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_WORLD_H_
