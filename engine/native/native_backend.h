// The native engine: QEMU's block commands on image files, without QEMU.
#ifndef ENGINE_NATIVE_NATIVE_BACKEND_H_
#define ENGINE_NATIVE_NATIVE_BACKEND_H_

#include <atomic>
#include <memory>
#include <string>

#include "engine/backend/event_log.h"
#include "engine/backend/shutdown.h"
#include "engine/base/clock.h"
#include "engine/base/path_policy.h"
#include "engine/native/engine.h"
#include "engine/native/handlers.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"

namespace tidemark::native {

// Any thread. Commands that change the graph run one at a time on the graph-command worker, in the
// order of their calls; queries and job verbs run on the engine thread and overtake them.
class NativeBackend final : public backend::LocalBackend {
 public:
  struct Options {
    std::string version;
    // What images, targets and sockets may be, whatever names them: a request, or the header of an
    // image.
    PathPolicy policy;
    // Whether what a file looks like may decide how it is opened, where its format is neither given
    // nor recorded.
    bool probe_formats = false;
    // Where images are found. Null: the files of this machine that `policy` allows.
    std::shared_ptr<storage::FileSystem> files;
  };

  // `log` and `clock` must outlive it.
  NativeBackend(Options options, backend::EventLog* log, Clock* clock);
  // Shuts down if nobody has.
  ~NativeBackend() override;

  void Call(const backend::Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* result, Done done) override;
  std::shared_ptr<const backend::Capabilities> capabilities() const override {
    return capabilities_;
  }
  void Shutdown() override;

  // Its parts, for those in this process who use nodes without being exports: guests of tests. Each
  // part says its own thread.
  Engine& engine() { return *engine_; }

 private:
  absl::Status CheckRunning() const;

  // Constant after construction.
  std::shared_ptr<const backend::Capabilities> capabilities_;
  Handlers handlers_;

  std::atomic<bool> shutting_down_ = false;

  // The engine's parts are used on its threads, and are destroyed when the threads have nothing
  // left to do.
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Threads> threads_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NATIVE_BACKEND_H_
