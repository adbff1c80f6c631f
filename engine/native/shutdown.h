// The end of the engine: commands are refused, jobs cancelled, exports ended, images closed, each
// part of the graph by itself. A disk that hangs is given up after a while, so that the process
// ends and everything else is saved.
#ifndef ENGINE_NATIVE_SHUTDOWN_H_
#define ENGINE_NATIVE_SHUTDOWN_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "engine/base/notification.h"
#include "engine/native/engine.h"

namespace tidemark::native {

// Once, on a thread that may block and is none of the engine's.
class Shutdown {
 public:
  // Each step waits no longer than `patience`.
  Shutdown(Engine* engine, absl::Duration patience) : engine_(*engine), patience_(patience) {}

  // True if all came to its end. False if something was given up, which was told on stderr: threads
  // still hang, so nothing of the engine may be destroyed. It does nothing any more.
  bool Run();
  // After Run: an image, or a bitmap, could not be saved, which was told on stderr.
  bool has_lost() const { return has_lost_; }

 private:
  // One part of the graph on its way out.
  struct Part {
    std::vector<std::string> node_names;
    // The user that cannot be waited for, if there is one: a job.
    std::string writer;
    graph::RemovedNodes nodes;
    // Of closing them; to be read once `closed` is notified.
    absl::Status status;
    Notification closed;
  };

  bool EndJobsAndCommands();
  bool EndExports();
  bool CloseParts();
  // Commands, and unless `exports_end` is still to come the end of exports: from now on they keep
  // off the graph, should the disk come back.
  void GiveUp(bool exports_end);

  // What may hang knows nothing of this object, which may be gone before.
  static std::vector<std::shared_ptr<Part>> FindParts(Engine& engine);
  static void ClosePart(Engine& engine, Part* part);

  Engine& engine_;
  const absl::Duration patience_;
  bool has_lost_ = false;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_SHUTDOWN_H_
