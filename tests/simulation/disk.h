// The disks of a simulated machine: files by name, in memory, with a volatile cache that a loss of
// power empties in part, and faults that come when a plan says so.
//
// One thread of the machine (fibers.h). Every request is a place where others may go on.
#ifndef TESTS_SIMULATION_DISK_H_
#define TESTS_SIMULATION_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/storage/crashing_storage.h"
#include "engine/storage/file.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/verb.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/fibers.h"

namespace tidemark::simulation {

// One thing that goes wrong.
struct Fault {
  enum class Kind {
    kError,    // EIO.
    kNoSpace,  // ENOSPC, of what changes the file.
    kTorn,     // EIO, and a part of what was to be written is there.
    kSlow,     // The request takes a second or more.
    kHung,     // The request takes until the faults are lifted.
  };
  Kind kind = Kind::kError;
  // Absent: any.
  absl::optional<storage::Verb> verb;
  // Part of the file's name.
  std::string file;
  // So many requests that match pass before.
  uint64_t pass_count = 0;
  // It stays until it is lifted; else it hits one request.
  bool lasting = false;

  std::string ToString() const;
};

class Disks final : public storage::FileSystem {
 public:
  Disks(uint64_t seed, const Fibers* fibers) : fibers_(*fibers), chance_(seed, "disks") {}

  void AddFault(Fault fault);
  // What hangs goes on; nothing fails any more.
  void LiftFaults();
  bool faulty() const { return !faults_.empty(); }

  // The power fails: from now on every request fails, and what was not flushed is lost in part.
  // What is left is found after PowerOn, when nobody has a file open any more.
  void PowerOff();
  void PowerOn();
  bool powered() const { return powered_; }
  // It fails by itself before that request; 0: never.
  void set_power_off_at(uint64_t request) { power_off_at_ = request; }

  bool Has(const std::string& path) const { return files_.contains(path); }
  // A copy of the file as it is now, and of what a loss of power now would leave at least.
  std::shared_ptr<storage::MemoryStorage> Contents(const std::string& path) const;
  std::shared_ptr<storage::MemoryStorage> DurableContents(const std::string& path) const;
  // Puts a file there, durable.
  void Put(const std::string& path, const storage::MemoryStorage& contents);
  // Every file's name.
  std::vector<std::string> Paths() const;
  // A request that a fault has hit.
  struct Hit {
    std::string path;
    Fault::Kind kind;
    storage::Verb verb;
    std::string by;  // The thread that asked.

    // It took long, and did not fail.
    bool stood_still() const { return kind == Fault::Kind::kSlow || kind == Fault::Kind::kHung; }
  };
  // Of files of which this is a part of the name: whether there are any, and all of them.
  bool HasHit(absl::string_view part) const;
  std::vector<Hit> HitsOf(absl::string_view part) const;
  // A flush of such a file has failed: where it was open then, it fails for good.
  bool FlushFailed(absl::string_view part) const;
  // Writes of the file from now on are remembered, as they begin.
  struct Written {
    Range range;
    bool well = false;  // Ended, and well.
  };
  const std::vector<Written>& Watch(const std::string& path) { return watched_[path]; }
  // Data written to the file.
  uint64_t written_bytes(const std::string& path) const;
  // Requests so far.
  uint64_t request_count() const { return request_count_; }

  absl::StatusOr<std::shared_ptr<storage::File>> Open(const std::string& path,
                                                      const storage::FileOptions& options) override;
  absl::Status Create(const std::string& path, uint64_t size_bytes,
                      storage::Preallocation preallocation,
                      const std::atomic<bool>* cancelled) override;
  absl::StatusOr<std::string> ReadBeginning(const std::string& path, size_t bytes_max) override;

 private:
  class OpenFile;
  struct User {
    storage::PermissionSet used = storage::kPermissionNone;
    storage::PermissionSet unshared = storage::kPermissionNone;
  };
  struct Contained {
    std::shared_ptr<storage::CrashingStorage> bytes;
    std::vector<User*> users;
  };
  struct Verdict {
    absl::Status status;
    bool torn = false;
  };

  // A request comes: waits as long as it takes, and says what becomes of it.
  Verdict Await(storage::Verb verb, const std::string& path);
  // The number of a change of a watched file that begins; -1 if it is not watched.
  int64_t NoteBegin(const std::string& path, Range range);
  void NoteEnd(const std::string& path, int64_t number, Range range, bool well);
  absl::Status CheckLock(const Contained& file, const std::string& path, const User* user,
                         storage::PermissionSet used, storage::PermissionSet unshared) const;

  const Fibers& fibers_;
  Chance chance_;
  bool powered_ = true;
  uint64_t request_count_ = 0;
  uint64_t power_off_at_ = 0;
  std::vector<Hit> hits_;
  std::vector<std::string> flush_failed_;
  std::map<std::string, std::vector<Written>> watched_;
  std::map<std::string, uint64_t> written_bytes_;
  std::map<std::string, std::shared_ptr<Contained>> files_;
  std::vector<Fault> faults_;
  // What is found when the power is back.
  std::map<std::string, std::shared_ptr<storage::MemoryStorage>> survived_;
  Mutex mutex_;
  CondVar lifted_;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_DISK_H_
