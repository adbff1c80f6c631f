// Tells what comes and goes in folders, by inotify on the loop.
//
// Any thread. Changes are told on the loop's thread, those of one folder in their order.
#ifndef ADAPTERS_QMP_FOLDER_WATCH_H_
#define ADAPTERS_QMP_FOLDER_WATCH_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/io_loop.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

class FolderWatch {
 public:
  enum class Change {
    kAppeared,  // Something has this name now, and had not, or was another thing.
    kVanished,  // Nothing has this name any more.
    kUnclear,   // Changes were missed: look at the whole folder. The name is empty.
  };
  using Told = std::function<void(const std::string& folder, const std::string& name, Change)>;

  // Null with a kernel that has no more inotify instances to give: nothing is told then.
  static std::unique_ptr<FolderWatch> Create(IoLoop& loop, Told told);
  // No change is told once this has returned. Not on the loop's thread.
  ~FolderWatch();
  FolderWatch(const FolderWatch&) = delete;
  FolderWatch& operator=(const FolderWatch&) = delete;

  // Tells of `folder` from now on, under just this name. Again: no effect, and false. Blocks: the
  // folder is looked up. FAILED_PRECONDITION (kIoError) if it is no folder that can be watched. A
  // folder that is removed is told as kUnclear and not watched any more.
  absl::StatusOr<bool> Add(const std::string& folder);
  // The same for a thread that may hang: it can be called at any time, also when this is gone.
  std::function<absl::StatusOr<bool>()> Adding(const std::string& folder);
  void Remove(const std::string& folder);

 private:
  class Core;
  explicit FolderWatch(std::shared_ptr<Core> core);
  const std::shared_ptr<Core> core_;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_FOLDER_WATCH_H_
