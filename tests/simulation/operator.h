// Who operates a disk: makes, clears and merges its bitmaps, backs it up in every way, and judges
// each backup that is said to have succeeded, and each bitmap after each command.
#ifndef TESTS_SIMULATION_OPERATOR_H_
#define TESTS_SIMULATION_OPERATOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/clock.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/world.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::simulation {

class Operator {
 public:
  // `number` is the disk's.
  Operator(World* world, VirtualDisk* disk, int number);

  // Commands one after another until they are through, or the world is calm.
  void Run();
  // When the world is calm and its jobs have ended: nothing is under way.
  void JudgeWhatIsLeft();
  // When nothing has failed for a while: what had failed was told.
  void JudgeTold();

 private:
  struct Backup {
    std::string job;
    std::string path;
    std::string node;
    std::string driver;
    // Path of what is below the target; empty: nothing.
    std::string base;
    block::v1::MirrorSyncMode sync = block::v1::MIRROR_SYNC_MODE_FULL;
    std::string bitmap;
    block::v1::BitmapSyncMode bitmap_mode = block::v1::BITMAP_SYNC_MODE_UNSPECIFIED;
    uint64_t size_bytes = 0;
    uint64_t speed = 0;
    uint64_t chunk_bytes = 0;
    // The instant lies between.
    Moment from = 0;
    Moment to = 0;
    // The target, with what its header says is below it, is the whole disk.
    bool whole = true;
    // A bitmap that was made at the same instant.
    std::string begins_chain;
    // So many faults had hit the target before it began.
    size_t hits_before = 0;
    bool judged = false;
    bool good = false;
    // What the bitmap had to have marked at the instant.
    std::vector<bool> marked;
  };

  // Sends a request; other disks than this one's must not hold it up.
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const Request& request) {
    const absl::Duration begin = SystemClock().Elapsed();
    absl::StatusOr<Response> answer = world_.machine().Call<Response>(request);
    JudgeDelay(request.GetDescriptor()->name(), SystemClock().Elapsed() - begin);
    return answer;
  }
  void JudgeDelay(const std::string& command, absl::Duration took) const;
  void DoSomething(int number);
  void AddBitmap();
  void ChangeBitmap();
  void AddFileBitmap();
  void ResizeDisk();
  void OpenAgain();
  void BackUp();
  // drive-backup.
  void BackUpToFile();
  void Fleece();
  void AwaitSome();
  // Starts it; false if it was refused.
  bool Start(Backup backup);
  void AddTarget(const Backup& backup, bool fleece);
  void DeleteNode(const std::string& node);
  // Looks at backups that have ended.
  void Judge();
  void JudgeOne(Backup& backup);
  // No backup there is holds all that the bitmap does not say was changed since.
  void BreakChain(const std::string& bitmap);
  void HandBitmapOver(const Backup& backup, bool well);
  void JudgeBitmaps(const std::string& after);
  void JudgeFileBitmaps(const std::string& after);
  void JudgeSpeed(const Backup& backup);
  void JudgePace(const Backup& backup);
  // By sector; also what a successor has marked.
  std::vector<bool> DirtySectors(const std::string& bitmap);
  std::string NewName(const std::string& kind);
  // A bitmap that no backup uses; empty if there is none.
  std::string FreeBitmap();
  bool IsBusy(const std::string& bitmap) const;

  World& world_;
  VirtualDisk& disk_;
  const int number_;
  Chance chance_;
  int names_ = 0;
  std::vector<Backup> backups_;
  // By bitmap: the target that is the disk as it was when the bitmap was last cleared.
  std::map<std::string, std::string> last_good_;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_OPERATOR_H_
