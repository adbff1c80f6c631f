// tidemarkd: the one place where concrete classes are chosen.

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "adapters/qmp/allowed_monitors.h"
#include "adapters/qmp/dialect.h"
#include "adapters/qmp/instances.h"
#include "adapters/qmp/io_loop.h"
#include "adapters/store/state_folder.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/backend/patient_registry.h"
#include "engine/backend/watched_store.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/notification.h"
#include "engine/base/path_policy.h"
#include "engine/base/status_macros.h"
#include "engine/native/native_backend.h"
#include "service/config.h"
#include "service/dispatch/dispatcher.h"
#include "service/dispatch/router.h"
#include "service/heap.h"
#include "service/memory_shares.h"
#include "service/orphan_jobs.h"
#include "service/rpc/admission.h"
#include "service/rpc/front.h"
#include "service/rpc/limits.h"
#include "service/rpc/listen_address.h"
#include "service/rpc/server.h"
#include "service/rpc/stream_set.h"
#include "service/shared/default_socket.h"
#include "service/shared/version.h"
#include "service/signals.h"
#include "service/start_folders.h"
#include "service/start_wait.h"
#include "service/startup.h"
#include "service/stop_request.h"

namespace tidemark {
namespace {

// Streams and timers: they never wait for a disk.
constexpr int kFrontThreads = 2;
// Long answers of virtual machines.
constexpr int kBridgeThreads = 2;

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

void MakeDefaultFolder(const Config& config) {
  if (config.listen[0].socket_path == kRootSocketPath) mkdir(kRootSocketFolder, 0755);
}

void Warn(const std::string& text) {
  std::fprintf(stderr, "tidemarkd: warning: %s\n", text.c_str());
}

// What the process before this one has left.
struct State {
  // Null if nothing is to outlive the process.
  std::shared_ptr<store::StateFolder> folder;
  backend::EventTail::Saved saved;
};

absl::StatusOr<State> OpenState(const Config& config, StopRequest& stop) {
  if (config.state_dir.empty()) return State();
  return RunUnlessStopped(
      stop, "the state folder", [path = config.state_dir]() -> absl::StatusOr<State> {
        State state;
        ASSIGN_OR_RETURN(state.folder, store::StateFolder::Open(path, SystemClock(), &Warn));
        ASSIGN_OR_RETURN(state.saved, state.folder->Load());
        return state;
      });
}

// The log goes on where that of the process before us ended, and `history` has what it knew of
// jobs.
backend::EventLogOptions LogOptions(State state, Executor& saver, backend::JobHistory* history) {
  backend::EventLogOptions options;
  if (state.folder == nullptr) return options;
  options.kept = std::move(state.saved.events);
  options.dropped = state.saved.dropped;
  options.dropped_of = std::move(state.saved.dropped_of);
  options.start_after = state.folder->start_after();
  options.id = state.folder->log_id();
  history->jobs = state.folder->TakeJobHistory();
  history->position = options.kept.empty() ? 0 : options.kept.back()->sequence();
  options.tail = std::move(state.folder);
  options.saver = &saver;
  options.warn = &Warn;
  return options;
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

// `images`: the policy of the native engine.
absl::StatusOr<qmp::InstancesOptions> InstancesOptionsOf(const Config& config,
                                                         const PathPolicy& images,
                                                         StartFolders& folders, StopRequest& stop) {
  qmp::InstancesOptions options;
  for (const std::string& folder : config.instance_folders) {
    ASSIGN_OR_RETURN(std::string real, folders.Resolve("--instance_dir", folder));
    options.folders.push_back(std::move(real));
  }
  if (!config.image_roots.empty()) {
    std::vector<std::string> roots = images.roots();
    roots.insert(roots.end(), options.folders.begin(), options.folders.end());
    std::vector<std::string> given = config.image_roots;
    given.insert(given.end(), config.instance_folders.begin(), config.instance_folders.end());
    options.sockets = PathPolicy::OfResolved(std::move(roots), std::move(given));
  }
  if (!config.image_roots.empty() || !config.instance_addresses.empty()) {
    ASSIGN_OR_RETURN(options.monitors, qmp::AllowedMonitors::Create(config.instance_addresses));
  }
  if (!config.instances_file.empty()) {
    ASSIGN_OR_RETURN(options.of_file, RunUnlessStopped(stop, "the file of instances",
                                                       [path = config.instances_file] {
                                                         return qmp::ReadInstancesFile(path);
                                                       }));
  }
  options.limits.silence_max = config.monitor_timeout;
  options.limits.keepalive_interval = qmp::kKeepaliveInterval;
  options.random = &Random;
  options.warn = [](const std::string& text) { Warn(text); };
  return options;
}

absl::StatusOr<rpc::ServerOptions> ServerOptionsOf(const Config& config) {
  rpc::ServerOptions options;
  options.listen = config.listen;
  options.tls_cert = config.tls_cert;
  options.tls_key = config.tls_key;
  options.tls_client_ca = config.tls_client_ca;
  options.token_file = config.token_file;
  options.insecure = config.insecure;
  if (!config.listen_group.empty()) {
    ASSIGN_OR_RETURN(options.sockets.group, rpc::FindGroup(config.listen_group));
    options.sockets.mode = 0660;
  }
  if (config.listen_mode.has_value()) options.sockets.mode = *config.listen_mode;
  options.transport_bytes_max = MemoryShares(config.memory_bytes_max).transport;
  options.warn = &Warn;
  for (const std::string& address : UnguardedAddresses(config)) {
    Warn(
        absl::StrCat("--insecure: whoever reaches ", address, " can do all that this service can"));
  }
  return options;
}

// Files are read first, so that one that cannot be or that hangs changes nothing. Then in this
// order: virtual machines are connected to, the startup file is carried out, clients are let in. By
// then the log has a position that they are shown.
absl::StatusOr<std::unique_ptr<rpc::Server>> Start(const Config& config, const rpc::Front& front,
                                                   qmp::Instances& instances, StopRequest& stop) {
  ASSIGN_OR_RETURN(const rpc::ServerOptions options, ServerOptionsOf(config));
  ASSIGN_OR_RETURN(rpc::Guard guard,
                   RunUnlessStopped(stop, "the files of certificates and tokens",
                                    [options] { return rpc::ReadGuard(options); }));
  std::vector<StartupRequest> requests;
  if (!config.startup_file.empty()) {
    ASSIGN_OR_RETURN(
        requests, RunUnlessStopped(stop, "the startup file",
                                   [path = config.startup_file] { return ReadStartupFile(path); }));
  }
  const absl::Status connecting = instances.Start();
  EndOrphanJobs(front.log, front.jobs, [&front](const std::string& instance) {
    return instance.empty() || front.router.Find(instance) != nullptr;
  });
  RETURN_IF_ERROR(connecting);
  RETURN_IF_ERROR(RunStartup(requests, front.dispatcher, front.log, stop));
  MakeDefaultFolder(config);
  RETURN_IF_ERROR(WaitUntilShown(front.log, stop));
  return rpc::Server::Start(front, options, std::move(guard));
}

void PrintAddresses(const rpc::Server& server) {
  for (const std::string& address : server.addresses()) {
    std::printf("tidemarkd: listening on %s\n", address.c_str());
  }
  std::fflush(stdout);
}

// The first event of this process. After it no position of the log is 0, which clients could not
// tell from one that is not set.
void TellStarted(backend::EventLog& log) {
  backend::Event event;
  event.mutable_service_started()->set_version(kVersion);
  event.mutable_service_started()->set_log_id(log.id());
  log.Append("", std::move(event));
}

// What a stop is about, for people who do not want to wait for it.
enum class Stage { kServing, kEngine, kMachines, kClients };

std::string Unsaved(Stage stage, const backend::EventLog& log) {
  std::vector<std::string> lost;
  if (stage == Stage::kServing || stage == Stage::kEngine) {
    lost.push_back(
        "images of the native engine that are still open are not closed, and their persistent "
        "bitmaps not saved, so the next backup by these is a full one");
  }
  if (const uint64_t events = log.position() - log.saved(); events > 0) {
    lost.push_back(absl::StrCat(events, " events are not in the state folder"));
  }
  return lost.empty() ? "nothing is lost" : absl::StrJoin(lost, "; ");
}

// Streams are to tell all that has happened before they end. A state folder that does not answer is
// not waited for by the log either.
void WaitUntilTold(backend::EventLog& log) {
  const auto shown = std::make_shared<Notification>();
  log.RunWhenShown(log.position(), [shown] { shown->Notify(); });
  shown->WaitFor(2 * backend::kSaveTimeMax);
}

// Says so if the state folder has not taken what happened.
bool GaveUpSaving(const backend::EventLog& log) {
  const uint64_t events = log.position() - log.saved();
  if (log.saving().ok() || events == 0) return false;
  std::fprintf(stderr, "tidemarkd: gave up waiting for the state folder, %s: %d events are lost\n",
               std::string(log.saving().message()).c_str(), static_cast<int>(events));
  return true;
}

// HUP, from now on. The files may lie on a disk that hangs.
void ReloadOnSignal(Signals& signals, const rpc::Server& server, const Config& config,
                    LookupPool& lookups) {
  if (server.tls() == nullptr) return;  // No tokens either.
  const auto warn = [](const absl::Status& status) {
    if (status.ok()) return;
    Warn(absl::StrCat(status.message(), "; what was read before stays in use"));
  };
  signals.SetReload([warn, tls = server.tls(), tls_file = config.tls_cert, tokens = server.tokens(),
                     token_file = config.token_file, &lookups] {
    lookups.LookAtFile(
        tls_file, [tls] { return tls->Reload(); }, warn);
    if (tokens == nullptr) return;
    lookups.LookAtFile(
        token_file, [tokens] { return tokens->Reload(); }, warn);
  });
}

// The folders each of which may hang by itself, under all their names.
std::vector<std::string> PlacesOf(const PathPolicy& paths, const qmp::InstancesOptions& instances) {
  std::vector<std::string> places = paths.RootNames();
  places.insert(places.end(), instances.folders.begin(), instances.folders.end());
  return places;
}

std::vector<std::string> FoldersOf(const Config& config) {
  std::vector<std::string> folders = config.image_roots;
  folders.insert(folders.end(), config.instance_folders.begin(), config.instance_folders.end());
  return folders;
}

absl::Status Serve(const Config& config, Signals& signals, StopRequest& stop) {
  WorkerPool executor("front", kFrontThreads);
  StartFolders folders(executor, FoldersOf(config), &Warn);
  ASSIGN_OR_RETURN(const PathPolicy paths, folders.PolicyOf("--image_root", config.image_roots));
  ASSIGN_OR_RETURN(qmp::InstancesOptions instances_options,
                   InstancesOptionsOf(config, paths, folders, stop));
  ASSIGN_OR_RETURN(State opened, OpenState(config, stop));
  const std::shared_ptr<store::StateFolder> state = opened.folder;
  // Readers wait for it.
  SerialExecutor saver("store");
  backend::JobHistory history;
  backend::EventLog log(SystemClock(), executor, LogOptions(std::move(opened), saver, &history));
  TellStarted(log);
  backend::JobBook jobs(log, std::exchange(history, {}));
  EndOrphanJobs(log, jobs, [](const std::string& instance) { return !instance.empty(); });
  const MemoryShares memory(config.memory_bytes_max);
  LookupPool lookups(executor, PlacesOf(paths, instances_options));
  const auto native = std::make_shared<native::NativeBackend>(
      native::NativeBackend::Options{.version = kVersion,
                                     .policy = paths,
                                     .lookups = &lookups,
                                     .probe_formats = config.probe_formats,
                                     .allow_remote_nbd = config.insecure,
                                     .memory_bytes = memory.engine},
      &log, &SystemClock());
  absl::optional<backend::WatchedStore> store;
  if (state != nullptr) {
    store.emplace(*state, SystemClock(), executor);
    // First of all: what is refused then is told at once, and not when it is saved.
    store->OnLate([&log](absl::Duration age) { log.TellNotAnswering(age); });
  }
  qmp::DialectCache dialects;
  // The loop outlives those that post to it.
  qmp::IoLoop loop;
  WorkerPool bridge_workers("bridge", kBridgeThreads);
  SerialExecutor storing("storing");
  SerialExecutor books("books");
  qmp::Instances instances(std::move(instances_options),
                           {loop, bridge_workers, storing, lookups, log, jobs,
                            store.has_value() ? &*store : nullptr, SystemClock(), dialects,
                            /*allow_remote_nbd=*/config.insecure},
                           books);
  absl::optional<backend::PatientRegistry> patient;
  if (store.has_value()) patient.emplace(instances, *store, config.state_dir);
  backend::InstanceRegistry& registry =
      patient.has_value() ? static_cast<backend::InstanceRegistry&>(*patient) : instances;
  const EveryEngine router(native, instances);
  dispatch::Dispatcher dispatcher(router, log, paths, lookups, config.probe_formats);
  rpc::Admission calls("call", {rpc::kCallsMax, memory.calls});
  rpc::StreamSet streams({rpc::kStreamsMax, memory.streams});
  const rpc::Front front{router, registry, log,           jobs,     dispatcher,
                         calls,  streams,  SystemClock(), executor, kVersion};

  std::atomic<Stage> stage = Stage::kServing;
  signals.SetUnsaved([&stage, &log] { return Unsaved(stage, log); });
  const absl::StatusOr<std::unique_ptr<rpc::Server>> server = Start(config, front, instances, stop);
  if (server.ok()) {
    ReloadOnSignal(signals, **server, config, lookups);
    PrintAddresses(**server);
    TrimHeapFromTimeToTime(executor);
    stop.Wait();
  }
  // Order matters: whoever waits for a name that is looked up is refused, native jobs end and tell
  // so, connections end (the jobs of virtual machines go on), then streams tell it and end, then
  // the server.
  dispatcher.Stop();
  lookups.Stop();
  stage = Stage::kEngine;
  native->Shutdown();
  stage = Stage::kMachines;
  const bool machines_ended = instances.Shutdown();
  stage = Stage::kClients;
  log.Flush();
  WaitUntilTold(log);
  streams.EndAll();
  signals.SetReload(nullptr);
  const bool calls_ended = !server.ok() || (*server)->Stop();
  signals.SetUnsaved(nullptr);
  const bool names_hang = lookups.running_count() > 0 || folders.running_count() > 0;
  const bool saving_hangs = GaveUpSaving(log);
  if (!machines_ended) {
    std::fputs("tidemarkd: gave up waiting for the state folder, which keeps an instance\n",
               stderr);
  }
  if (native->gave_up() || saving_hangs || !machines_ended || !calls_ended ||
      (server.ok() && names_hang)) {
    // Threads hang at a disk, or calls at clients that take nothing: nothing can be waited for, or
    // destroyed under them. All that is to be kept is, or was told.
    std::fflush(nullptr);
    const bool is_failed =
        native->gave_up() || native->has_lost() || saving_hangs || !machines_ended;
    _exit(is_failed ? kExitFailed : EXIT_SUCCESS);
  }
  if (native->has_lost()) return absl::DataLossError("not everything could be saved, as told");
  return server.status();
}

absl::optional<std::string> FromEnvironment(absl::string_view name) {
  const char* const value = std::getenv(std::string(name).c_str());
  return value == nullptr ? absl::nullopt : absl::optional<std::string>(value);
}

int Main(const std::vector<std::string>& arguments) {
  // For ever: signals may come until the very end.
  static StopRequest& stop = *new StopRequest;
  static Signals& signals = *new Signals(stop);
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
  RaiseLimits();
  BoundHeap();
  signals.Start();
  const absl::Status status = Serve(*config, signals, stop);
  if (status.ok()) return EXIT_SUCCESS;
  if (stop.is_made() && absl::IsCancelled(status)) {
    // Told to stop before it served: that is no failure. A thread may hang at a file.
    std::fflush(nullptr);
    _exit(EXIT_SUCCESS);
  }
  std::fprintf(stderr, "tidemarkd: %s\n", std::string(status.message()).c_str());
  return kExitFailed;
}

}  // namespace
}  // namespace tidemark

int main(int argc, char** argv) {
  return tidemark::Main(std::vector<std::string>(argv + 1, argv + argc));
}
