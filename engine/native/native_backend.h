// The native engine: QEMU's block commands on image files, without QEMU.
#ifndef ENGINE_NATIVE_NATIVE_BACKEND_H_
#define ENGINE_NATIVE_NATIVE_BACKEND_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "engine/backend/event_log.h"
#include "engine/backend/shutdown.h"
#include "engine/base/clock.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"
#include "engine/native/engine.h"
#include "engine/native/handlers.h"
#include "engine/native/limits.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"

namespace tidemark::native {

// Any thread. Commands that change the graph start and end in the order of their calls as far as
// they touch the same part of the graph, the same files, exports or job ids; what they wait for is
// nobody else's business (command_queue.h). Queries and job verbs run on the engine thread and
// overtake them.
class NativeBackend final : public backend::LocalBackend {
 public:
  struct Options {
    std::string version;
    // What images, targets and sockets may be, whatever names them: a request, or the header of an
    // image.
    PathPolicy policy;
    // Where names that images tell are looked up, which may hang. Must outlive the backend. Null:
    // each command does so itself.
    LookupPool* lookups = nullptr;
    // Whether what a file looks like may decide how it is opened, where its format is neither given
    // nor recorded.
    bool probe_formats = false;
    // Whether the NBD server may listen where other machines reach it.
    bool allow_remote_nbd = false;
    // Where images are found. Null: the files of this machine that `policy` allows.
    std::shared_ptr<storage::FileSystem> files;
    // What the data of NBD requests and the buffers of copies may take, all together; at least
    // kMemoryBytesMin.
    uint64_t memory_bytes = kMemoryBytesDefault;
    // Threads that run the steps of jobs.
    int worker_count = kWorkerCount;
    // A shutdown waits so long for each of its steps, and then gives up what hangs.
    absl::Duration shutdown_patience = kShutdownPatience;
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
  // The shutdown has given up something that hangs: threads of this process still wait for a disk.
  // End it by _exit.
  bool gave_up() const { return gave_up_; }
  // After Shutdown: something could not be saved, which was told on stderr.
  bool has_lost() const { return has_lost_; }

  // Its parts, for those in this process who use nodes without being exports: guests of tests. Each
  // part says its own thread.
  Engine& engine() { return *engine_; }

 private:
  // Refused while shutting down.
  absl::Status CheckRunning() const;
  void CallOnGraph(const Handlers::Handler& handler, const google::protobuf::Message& request,
                   google::protobuf::Message* result, Done done);

  // Constant after construction.
  std::shared_ptr<const backend::Capabilities> capabilities_;
  Handlers handlers_;

  const absl::Duration shutdown_patience_;

  std::atomic<bool> shutting_down_ = false;
  std::atomic<bool> gave_up_ = false;
  std::atomic<bool> has_lost_ = false;

  // The engine's parts are used on its threads, and are destroyed when the threads have nothing
  // left to do.
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Threads> threads_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NATIVE_BACKEND_H_
