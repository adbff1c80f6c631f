// Asks the disks what queries tell of files (the space that they take), so that no query waits for
// a disk that hangs: what such a disk has said last is told instead.
#ifndef ENGINE_NATIVE_DISK_LOOK_H_
#define ENGINE_NATIVE_DISK_LOOK_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/base/executor.h"
#include "engine/base/file_places.h"
#include "engine/graph/driver.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/threads.h"

namespace tidemark::native {

// Engine thread. The disks are asked on threads of their own: one at a time for each mounted file
// system.
class DiskLook {
 public:
  // `roots`: see FilePlaces.
  DiskLook(Threads* threads, std::vector<std::string> roots)
      : threads_(*threads), places_(std::move(roots)) {}

  // Asks for these files, all of which are FileDrivers, and posts `done` to the engine thread when
  // all have answered. What is late (kDiskLookMax) is not waited for, and what is late already is
  // not waited for at all until it has answered.
  void Refresh(const std::vector<std::shared_ptr<graph::Driver>>& files, Task done);

  // Shutdown: waits for nothing any more.
  void FinishAll();
  // Posts `task` to the engine thread when no disk is being asked.
  void WhenIdle(Task task);

 private:
  // One query. Shared by the mounts it waits for.
  struct Query {
    Task done;  // Null when it was called.
    int waits_for = 0;
  };
  // The files of one mounted file system.
  struct Mount {
    bool asking = false;
    bool late = false;
    // For the next turn.
    std::vector<std::shared_ptr<graph::Driver>> files;
    std::vector<std::shared_ptr<Query>> queries;
    // Of this turn.
    std::vector<std::shared_ptr<Query>> asked_for;
  };

  void Ask(const std::string& place);
  void OnAnswered(const std::string& place);
  void OnLate(const std::shared_ptr<Query>& query);
  static void Finish(Query* query);
  void ReportIfIdle();

  Threads& threads_;
  FilePlaces places_;
  absl::flat_hash_map<std::string, Mount> mounts_;
  std::vector<Task> when_idle_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DISK_LOOK_H_
