// tidemarkd: the one place where concrete classes are chosen.

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/dialect.h"
#include "adapters/qmp/instances.h"
#include "adapters/qmp/io_loop.h"
#include "adapters/store/state_folder.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/path_policy.h"
#include "engine/base/status_macros.h"
#include "engine/native/native_backend.h"
#include "service/config.h"
#include "service/dispatch/dispatcher.h"
#include "service/dispatch/router.h"
#include "service/heap.h"
#include "service/orphan_jobs.h"
#include "service/rpc/front.h"
#include "service/rpc/server.h"
#include "service/rpc/stream_set.h"
#include "service/shared/default_socket.h"
#include "service/shared/version.h"
#include "service/startup.h"

namespace tidemark {
namespace {

// Streams, timers and checks of file names: they hardly ever wait.
constexpr int kFrontThreads = 2;
// Long answers of virtual machines.
constexpr int kBridgeThreads = 2;
// Names of hosts that are looked up; each may take a minute.
constexpr int kResolverThreads = 2;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

// The signals that end the service. Blocked before any thread starts, so that only Wait sees them.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    // A peer that closes its socket is an error of that write, no more.
    signal(SIGPIPE, SIG_IGN);
  }
  void Wait() {
    int number = 0;
    while (sigwait(&signals_, &number) != 0) {
    }
  }

 private:
  sigset_t signals_;
};

void MakeDefaultFolder(const Config& config) {
  if (config.listen[0].socket_path == kRootSocketPath) mkdir(kRootSocketFolder, 0755);
}

void Warn(const std::string& text) {
  std::fprintf(stderr, "tidemarkd: warning: %s\n", text.c_str());
}

// Null if nothing is to outlive the process.
absl::StatusOr<std::shared_ptr<store::StateFolder>> OpenState(const Config& config) {
  if (config.state_dir.empty()) return nullptr;
  return store::StateFolder::Open(config.state_dir, SystemClock(), &Warn);
}

// The log goes on where that of the process before us ended.
// `history`: what is saved from before a gap.
absl::StatusOr<backend::EventLogOptions> LogOptions(std::shared_ptr<store::StateFolder> state,
                                                    Executor& saver,
                                                    std::vector<backend::EventPtr>* history) {
  backend::EventLogOptions options;
  if (state == nullptr) return options;
  ASSIGN_OR_RETURN(backend::EventTail::Saved saved, state->Load());
  options.kept = std::move(saved.events);
  *history = std::move(saved.before_gap);
  options.start_after = state->start_after();
  options.tail = std::move(state);
  options.saver = &saver;
  return options;
}

// Each virtual machine takes two descriptors, each client and each image one: a usual limit of
// 1,024 is few. Nothing here is limited to that (select), so what the host allows is taken.
void RaiseFileLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// The native engine under the empty name, virtual machines under theirs.
class EveryEngine final : public dispatch::Router {
 public:
  EveryEngine(std::shared_ptr<backend::Backend> native, const qmp::Instances& instances)
      : native_(std::move(native)), instances_(instances) {}

  std::shared_ptr<backend::Backend> Find(absl::string_view instance) const override {
    return instance.empty() ? native_ : instances_.Find(instance);
  }

 private:
  const std::shared_ptr<backend::Backend> native_;
  const qmp::Instances& instances_;
};

// From 0 to 1; any thread.
double Random() {
  thread_local absl::InsecureBitGen generator;
  return absl::Uniform(absl::IntervalClosed, generator, 0.0, 1.0);
}

absl::StatusOr<qmp::InstancesOptions> InstancesOptionsOf(const Config& config) {
  qmp::InstancesOptions options;
  for (const std::string& folder : config.instance_folders) {
    std::error_code error;
    const std::string real = std::filesystem::canonical(folder, error);
    if (error) {
      return Error(Reason::kFileNotFound,
                   absl::StrCat("Cannot use --instance_dir '", folder, "': ", error.message()),
                   {{"file", folder}});
    }
    options.folders.push_back(real);
  }
  if (!config.image_roots.empty()) {
    std::vector<std::string> roots = config.image_roots;
    roots.insert(roots.end(), options.folders.begin(), options.folders.end());
    ASSIGN_OR_RETURN(options.sockets, PathPolicy::Create(roots));
  }
  if (!config.instances_file.empty()) {
    ASSIGN_OR_RETURN(options.of_file, qmp::ReadInstancesFile(config.instances_file));
  }
  options.limits.silence_max = config.monitor_timeout;
  options.limits.keepalive_interval = qmp::kKeepaliveInterval;
  options.random = &Random;
  options.warn = [](const std::string& text) { Warn(text); };
  return options;
}

// In this order: virtual machines are connected to, the startup file is carried out, clients are
// let in.
absl::StatusOr<std::unique_ptr<rpc::Server>> Start(const Config& config, const rpc::Front& front,
                                                   qmp::Instances& instances) {
  const absl::Status connecting = instances.Start();
  EndOrphanJobs(front.log, front.jobs, [&front](const std::string& instance) {
    return instance.empty() || front.router.Find(instance) != nullptr;
  });
  RETURN_IF_ERROR(connecting);
  if (!config.startup_file.empty()) {
    ASSIGN_OR_RETURN(const auto requests, ReadStartupFile(config.startup_file));
    RETURN_IF_ERROR(RunStartup(requests, front.dispatcher, front.log));
  }
  MakeDefaultFolder(config);
  return rpc::Server::Start(front,
                            {config.listen, config.tls_cert, config.tls_key, config.tls_client_ca});
}

void PrintAddresses(const rpc::Server& server) {
  for (const std::string& address : server.addresses()) {
    std::printf("tidemarkd: listening on %s\n", address.c_str());
  }
  std::fflush(stdout);
}

absl::Status Serve(const Config& config, StopSignals& stop_signals) {
  ASSIGN_OR_RETURN(const PathPolicy paths, PathPolicy::Create(config.image_roots));
  ASSIGN_OR_RETURN(qmp::InstancesOptions instances_options, InstancesOptionsOf(config));
  WorkerPool executor("front", kFrontThreads);
  ASSIGN_OR_RETURN(const std::shared_ptr<store::StateFolder> state, OpenState(config));
  SerialExecutor saver("store", WorkerPool::Urgency::kBackground);
  std::vector<backend::EventPtr> history;
  ASSIGN_OR_RETURN(backend::EventLogOptions log_options, LogOptions(state, saver, &history));
  backend::EventLog log(SystemClock(), executor, std::move(log_options));
  backend::JobBook jobs(log, std::exchange(history, {}));
  EndOrphanJobs(log, jobs, [](const std::string& instance) { return !instance.empty(); });
  const auto native = std::make_shared<native::NativeBackend>(
      native::NativeBackend::Options{.version = kVersion,
                                     .policy = paths,
                                     .probe_formats = config.probe_formats,
                                     .memory_bytes = config.memory_bytes_max},
      &log, &SystemClock());
  qmp::DialectCache dialects;
  // The loop outlives those that post to it.
  qmp::IoLoop loop;
  WorkerPool resolver("resolver", kResolverThreads);
  WorkerPool bridge_workers("bridge", kBridgeThreads);
  SerialExecutor storing("storing");
  SerialExecutor books("books");
  qmp::Instances instances(
      std::move(instances_options),
      {loop, bridge_workers, storing, resolver, log, jobs, state.get(), SystemClock(), dialects},
      books);
  const EveryEngine router(native, instances);
  dispatch::Dispatcher dispatcher(router, log, paths, executor);
  rpc::StreamSet streams;
  const rpc::Front front{router,  instances,     log,      jobs,    dispatcher,
                         streams, SystemClock(), executor, kVersion};

  const absl::StatusOr<std::unique_ptr<rpc::Server>> server = Start(config, front, instances);
  if (server.ok()) {
    PrintAddresses(**server);
    TrimHeapFromTimeToTime(executor);
    stop_signals.Wait();
  }
  // Order matters: native jobs end and tell so, connections end (the jobs of virtual machines go
  // on), then streams tell it and end, then the server.
  dispatcher.Stop();
  native->Shutdown();
  instances.Shutdown();
  log.Flush();
  streams.EndAll();
  if (server.ok()) (*server)->Stop();
  if (native->gave_up()) {
    // Threads hang at a disk: nothing can be waited for, or destroyed under them.
    std::fflush(nullptr);
    _exit(kExitFailed);
  }
  return server.status();
}

absl::optional<std::string> FromEnvironment(absl::string_view name) {
  const char* const value = std::getenv(std::string(name).c_str());
  return value == nullptr ? absl::nullopt : absl::optional<std::string>(value);
}

int Main(const std::vector<std::string>& arguments) {
  StopSignals stop_signals;
  const absl::StatusOr<Config> config = ParseConfig(arguments, FromEnvironment);
  if (!config.ok()) {
    std::fprintf(stderr, "tidemarkd: %s\n", std::string(config.status().message()).c_str());
    return kExitUsage;
  }
  switch (config->action) {
    case Config::Action::kHelp:
      std::fputs(HelpText().c_str(), stdout);
      return EXIT_SUCCESS;
    case Config::Action::kVersion:
      std::printf("tidemarkd %s\n", kVersion);
      return EXIT_SUCCESS;
    case Config::Action::kServe:
      break;
  }
  RaiseFileLimit();
  BoundHeap();
  const absl::Status status = Serve(*config, stop_signals);
  if (status.ok()) return EXIT_SUCCESS;
  std::fprintf(stderr, "tidemarkd: %s\n", std::string(status.message()).c_str());
  return kExitFailed;
}

}  // namespace
}  // namespace tidemark

int main(int argc, char** argv) {
  return tidemark::Main(std::vector<std::string>(argv + 1, argv + argc));
}
