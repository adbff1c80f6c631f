#include "engine/native/native_backend.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "engine/graph/limits.h"
#include "engine/job/limits.h"
#include "engine/native/commands/chain_commands.h"
#include "engine/native/commands/export_commands.h"
#include "engine/native/commands/job_commands.h"
#include "engine/native/commands/mirror_commands.h"
#include "engine/native/commands/node_commands.h"
#include "engine/native/commands/transaction_commands.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/shutdown.h"
#include "engine/nbd/limits.h"
#include "engine/storage/machine_files.h"

namespace tidemark::native {
namespace {

namespace v1 = ::tidemark::block::v1;

void DescribeDrivers(v1::GetCapabilitiesResponse* details) {
  for (const DriverRow& driver : AllDrivers()) {
    v1::DriverCapability* const capability = details->add_drivers();
    capability->set_driver(driver.driver);
    capability->set_open(true);
    capability->set_write(true);
    capability->set_create(driver.can_create);
    capability->set_backing(driver.has_backing);
    capability->set_persistent_bitmaps(driver.has_persistent_bitmaps);
    capability->set_compress(driver.can_compress);
  }
}

backend::Capabilities MakeCapabilities(const std::string& version, const Handlers& handlers) {
  backend::Capabilities capabilities;
  capabilities.engine = backend::EngineKind::kNative;
  capabilities.version = version;
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    if (handlers.Find(command->method->input_type()) != nullptr) {
      capabilities.commands.insert(command->qmp_name);
    }
  }
  DescribeDrivers(&capabilities.details);
  for (const v1::EventKind kind :
       {v1::EVENT_KIND_JOB_STATUS_CHANGE, v1::EVENT_KIND_BLOCK_JOB_COMPLETED,
        v1::EVENT_KIND_BLOCK_JOB_CANCELLED, v1::EVENT_KIND_BLOCK_JOB_ERROR,
        v1::EVENT_KIND_BLOCK_JOB_PENDING, v1::EVENT_KIND_BLOCK_JOB_READY,
        v1::EVENT_KIND_BLOCK_EXPORT_DELETED, v1::EVENT_KIND_JOB_PROGRESS}) {
    capabilities.details.add_events(kind);
  }
  for (const v1::JobType type :
       {v1::JOB_TYPE_BACKUP, v1::JOB_TYPE_CREATE, v1::JOB_TYPE_MIRROR, v1::JOB_TYPE_STREAM}) {
    capabilities.details.add_job_types(type);
  }
  capabilities.details.add_export_types(v1::BLOCK_EXPORT_TYPE_NBD);
  v1::ServiceLimits* const limits = capabilities.details.mutable_limits();
  limits->set_jobs(job::kJobsMax);
  limits->set_nodes(graph::kNodesMax);
  limits->set_exports(nbd::kExportsMax);
  return capabilities;
}

// A command on the graph on its way: answered once, by itself or, if it is not waited for any more,
// by the shutdown. What it works with is its own, since the caller's is gone with the answer.
class GraphCall {
 public:
  GraphCall(const google::protobuf::Message& request, google::protobuf::Message* result,
            backend::Backend::Done done)
      : request_(request.New()), response_(result->New()), result_(result), done_(std::move(done)) {
    request_->CopyFrom(request);
  }

  const google::protobuf::Message& request() const { return *request_; }
  google::protobuf::Message* response() { return response_.get(); }

  // Does nothing if it was answered before. Any thread.
  void Answer(absl::Status status) {
    if (answered_.exchange(true)) return;
    if (status.ok()) result_->GetReflection()->Swap(result_, response_.get());
    std::exchange(done_, nullptr)(std::move(status));
  }

 private:
  const std::unique_ptr<google::protobuf::Message> request_;
  const std::unique_ptr<google::protobuf::Message> response_;
  google::protobuf::Message* const result_;
  std::atomic<bool> answered_ = false;
  backend::Backend::Done done_;  // Of the one who answers.
};

}  // namespace

NativeBackend::NativeBackend(Options options, backend::EventLog* log, Clock* clock)
    : shutdown_patience_(options.shutdown_patience),
      threads_(std::make_unique<Threads>(options.worker_count)) {
  if (options.files == nullptr) {
    options.files = std::make_shared<storage::MachineFiles>(options.policy);
  }
  engine_ = std::make_unique<Engine>(threads_.get(), log, clock, std::move(options.policy),
                                     options.lookups, std::move(options.files),
                                     ProbeRules{.probe_formats = options.probe_formats},
                                     options.memory_bytes);
  AddNodeCommands(engine_.get(), &handlers_);
  AddChainCommands(engine_.get(), &handlers_);
  AddMirrorCommands(engine_.get(), &handlers_);
  AddExportCommands(engine_.get(), options.allow_remote_nbd, &handlers_);
  AddTransactionCommands(engine_.get(), &handlers_);
  AddJobCommands(&engine_->scheduler, &handlers_);
  capabilities_ =
      std::make_shared<const backend::Capabilities>(MakeCapabilities(options.version, handlers_));
}

NativeBackend::~NativeBackend() {
  if (!shutting_down_) Shutdown();
  if (gave_up_) {
    // Threads hang in the engine and will for ever: it stays.
    static std::vector<std::pair<Threads*, Engine*>>* const given_up =
        new std::vector<std::pair<Threads*, Engine*>>;
    given_up->emplace_back(threads_.release(), engine_.release());
    return;
  }
  // What was still posted runs before the parts that it touches go: the pools finish their queues.
  threads_ = nullptr;
  engine_ = nullptr;
}

absl::Status NativeBackend::CheckRunning() const {
  if (!shutting_down_) return absl::OkStatus();
  return Error(Reason::kShuttingDown, "the engine is shutting down and takes no more commands");
}

void NativeBackend::Call(const backend::Command& command, const google::protobuf::Message& request,
                         google::protobuf::Message* result, Done done) {
  const Handlers::Handler* const handler = handlers_.Find(request.GetDescriptor());
  if (handler == nullptr) {
    return done(Error(Reason::kCommandUnsupported,
                      absl::StrCat("the native engine has no command ", command.qmp_name),
                      {{"command", command.qmp_name}}));
  }
  // At once: an engine that has given up does nothing any more.
  if (absl::Status status = CheckRunning(); !status.ok()) return done(std::move(status));
  if (command.kind == backend::CommandKind::kGraph) {
    return CallOnGraph(*handler, request, result, std::move(done));
  }
  threads_->engine().Post([this, handler, &request, result, done = std::move(done)]() mutable {
    absl::Status status = CheckRunning();
    if (!status.ok()) return done(std::move(status));
    (*handler)(request, result, std::move(done));
  });
}

void NativeBackend::CallOnGraph(const Handlers::Handler& handler,
                                const google::protobuf::Message& request,
                                google::protobuf::Message* result, Done done) {
  const auto call = std::make_shared<GraphCall>(request, result, std::move(done));
  threads_->engine().Post([this, &handler, call, keys = KeysOf(request)]() mutable {
    absl::Status status = CheckRunning();
    if (!status.ok()) return call->Answer(std::move(status));
    engine_->commands.AddCommand(
        std::move(keys),
        [this, &handler, call] {
          absl::Status allowed = backend::CheckPaths(call->request(), engine_->policy);
          if (!allowed.ok()) return call->Answer(std::move(allowed));
          handler(call->request(), call->response(),
                  [call](absl::Status answer) { call->Answer(std::move(answer)); });
        },
        [call](const absl::Status& refusal) { call->Answer(refusal); });
  });
}

void NativeBackend::Shutdown() {
  shutting_down_ = true;
  native::Shutdown shutdown(engine_.get(), shutdown_patience_);
  gave_up_ = !shutdown.Run();
  has_lost_ = shutdown.has_lost();
}

}  // namespace tidemark::native
