#include "tests/faults/bridge_world.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/support/refusal.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/instance.grpc.pb.h"

namespace tidemark::test {
namespace {

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoSeconds(kPatience));
}

}  // namespace

BridgeWorld::BridgeWorld(std::vector<std::string> flags) : flags_(std::move(flags)) {
  StartDaemon();
}

void BridgeWorld::StartDaemon() {
  daemon_ = std::make_unique<Daemon>(&folder_, flags_);
  if (!daemon_->started()) std::fprintf(stderr, "%s\n", daemon_->Log().c_str());
  CHECK(daemon_->started());
}

std::string BridgeWorld::Socket(const std::string& instance) const {
  return folder_.File(instance + ".qmp");
}

void BridgeWorld::StartQemu(const qmp::QemuProgram& program, const std::string& instance) {
  qemus_[instance] = std::make_unique<qmp::StorageDaemon>(program, Socket(instance));
}

Client& BridgeWorld::ClientOf(const std::string& instance) {
  std::unique_ptr<Client>& client = clients_[instance];
  if (client == nullptr) client = std::make_unique<Client>(daemon_->address(), instance);
  return *client;
}

Refusal BridgeWorld::Register(const std::string& instance, const std::string& path) {
  v1::CreateInstanceRequest request;
  request.set_id(instance);
  request.mutable_address()->mutable_unix_socket()->set_path(path.empty() ? Socket(instance)
                                                                          : path);
  return ClientOf("").Invoke(request).refusal;
}

std::pair<bool, v1::Instance> BridgeWorld::WaitFor(
    const std::string& instance, const std::function<bool(const v1::Instance&)>& condition) {
  const auto stub = v1::InstanceService::NewStub(ClientOf("").channel());
  grpc::ClientContext context;
  SetDeadline(&context);
  context.set_wait_for_ready(true);
  v1::WatchInstancesRequest request;
  request.add_instances(instance);
  const auto stream = stub->WatchInstances(&context, request);
  v1::WatchInstancesResponse response;
  v1::Instance last;
  while (stream->Read(&response)) {
    if (!response.has_instance()) continue;
    last = response.instance();
    if (!condition(last)) continue;
    context.TryCancel();
    return {true, last};
  }
  return {false, last};
}

bool BridgeWorld::WaitForState(const std::string& instance, v1::InstanceState state) {
  const auto [came, last] =
      WaitFor(instance, [state](const v1::Instance& now) { return now.state() == state; });
  if (!came) std::fprintf(stderr, "still: %s\n", last.ShortDebugString().c_str());
  return came;
}

Refusal BridgeWorld::AddNull(const std::string& instance, const std::string& node,
                             int64_t size_bytes) {
  v1::BlockdevAddRequest request;
  v1::BlockdevOptions& options = *request.mutable_options();
  options.set_node_name(node);
  options.mutable_null_co()->set_size(size_bytes);
  options.mutable_null_co()->set_read_zeroes(true);
  return ClientOf(instance).Invoke(request).refusal;
}

Refusal BridgeWorld::StartBackup(const std::string& instance, const std::string& job, bool slow) {
  for (const char* node : {"source", "target"}) {
    if (Refusal refusal = AddNull(instance, node); !refusal.ok()) return refusal;
  }
  v1::BlockdevBackupRequest request;
  request.set_job_id(job);
  request.set_device("source");
  request.set_target("target");
  request.set_sync(v1::MIRROR_SYNC_MODE_FULL);
  if (slow) request.set_speed(1024);
  return ClientOf(instance).Invoke(request).refusal;
}

std::vector<v1::Event> BridgeWorld::EventsUntil(
    uint64_t after, const std::function<bool(const v1::Event&)>& condition, Refusal* refusal) {
  const auto stub = v1::EventService::NewStub(ClientOf("").channel());
  grpc::ClientContext context;
  SetDeadline(&context);
  context.set_wait_for_ready(true);
  v1::WatchEventsRequest request;
  request.set_after(after);
  const auto stream = stub->WatchEvents(&context, request);
  std::vector<v1::Event> events;
  v1::WatchEventsResponse response;
  while (stream->Read(&response)) {
    if (!response.has_event()) continue;
    events.push_back(response.event());
    if (!condition(response.event())) continue;
    context.TryCancel();
    return events;
  }
  const grpc::Status status = stream->Finish();
  if (refusal != nullptr) *refusal = RefusalOf(status);
  std::fprintf(stderr, "no such event after %zu others: %s\n", events.size(),
               status.error_message().c_str());
  for (const v1::Event& event : events) {
    std::fprintf(stderr, "  %s\n", event.ShortDebugString().c_str());
  }
  return {};
}

bool IsStatus(const v1::Event& event, const std::string& job, v1::JobStatus status) {
  return event.has_job_status_change() && event.job_status_change().id() == job &&
         event.job_status_change().status() == status;
}

}  // namespace tidemark::test
