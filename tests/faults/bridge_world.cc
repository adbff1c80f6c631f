#include "tests/faults/bridge_world.h"

#include <cstdio>
#include <utility>

#include "engine/base/check.h"
#include "tests/conformance/requests.h"

namespace tidemark::test {
namespace {

constexpr int64_t kDiskBytes = 64 << 20;

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

void BridgeWorld::StartQemu(const QemuBuild& qemu, const std::string& instance, FirstClient first) {
  qemus_[instance] = std::make_unique<StorageDaemonProcess>(qemu, Socket(instance), first);
}

Client& BridgeWorld::ClientOf(const std::string& instance) {
  std::unique_ptr<Client>& client = clients_[instance];
  if (client == nullptr) client = std::make_unique<Client>(daemon_->address(), instance);
  return *client;
}

Refusal BridgeWorld::Register(const std::string& instance, const std::string& path) {
  return ClientOf("")
      .Invoke(CreateInstance(instance, path.empty() ? Socket(instance) : path))
      .refusal;
}

std::pair<bool, v1::Instance> BridgeWorld::WaitFor(
    const std::string& instance, const std::function<bool(const v1::Instance&)>& condition) {
  v1::WatchInstancesRequest request;
  request.add_instances(instance);
  v1::Instance last;
  const Refusal end =
      ClientOf("").WatchInstances(request, [&](const v1::WatchInstancesResponse& response) {
        if (!response.has_instance()) return false;
        last = response.instance();
        return condition(last);
      });
  return {end.ok(), last};
}

bool BridgeWorld::WaitForState(const std::string& instance, v1::InstanceState state) {
  const auto [came, last] =
      WaitFor(instance, [state](const v1::Instance& now) { return now.state() == state; });
  if (!came) std::fprintf(stderr, "still: %s\n", last.ShortDebugString().c_str());
  return came;
}

Refusal BridgeWorld::AddNull(const std::string& instance, const std::string& node) {
  return ClientOf(instance).Invoke(Add(NullOptions(node, kDiskBytes))).refusal;
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
  v1::WatchEventsRequest request;
  request.set_after(after);
  std::vector<v1::Event> events;
  const Refusal end =
      ClientOf("").WatchEvents(request, [&](const v1::WatchEventsResponse& response) {
        if (!response.has_event()) return false;
        events.push_back(response.event());
        return condition(events.back());
      });
  if (end.ok()) return events;
  if (refusal != nullptr) *refusal = end;
  std::fprintf(stderr, "no such event after %zu others: %s\n", events.size(), end.message.c_str());
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
