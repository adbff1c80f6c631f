// Who may do what, and when. There is at most one connection, and between two there is either a
// wait or an OnClosed at work; so changes of state come one after the other, though on different
// threads, and each is told outside the lock without another overtaking it. Only End comes from
// aside: it sets a mark, and whoever is at work then does the rest.
#include "adapters/qmp/monitored_instance.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/error_reason.h"
#include "engine/backend/proto_time.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "engine/base/utf8.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// The oldest QEMU that this is tested with.
constexpr int kOldestMajor = 7;
constexpr int kOldestMinor = 2;

// After these the virtual machine may be in another run state.
constexpr absl::string_view kRunStateEvents[] = {
    "STOP",   "RESUME",         "SHUTDOWN",          "SUSPEND",  "SUSPEND_DISK",
    "WAKEUP", "GUEST_PANICKED", "GUEST_CRASHLOADED", "WATCHDOG", "RESET"};

bool IsTooOld(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, '.');
  int major = 0;
  int minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &major) ||
      !absl::SimpleAtoi(parts[1], &minor)) {
    return true;
  }
  return major < kOldestMajor || (major == kOldestMajor && minor < kOldestMinor);
}

// A member that is a string; empty if there is none.
std::string Text(const Json& object, const char* member) {
  const std::string* const text = StringMember(object, member);
  return text == nullptr ? "" : *text;
}

v1::RunState RunStateOf(const std::string& qmp_name) {
  Json json = Json::object();
  json["run-state"] = qmp_name;
  v1::Instance instance;
  FromJson(json, Strictness::kReply, &instance).IgnoreError();
  return instance.run_state();
}

}  // namespace

MonitoredInstance::MonitoredInstance(Options options, BridgeContext context,
                                     std::shared_ptr<QmpBackend> backend)
    : options_(std::move(options)), context_(context), backend_(std::move(backend)) {
  MutexLock lock(&mutex_);
  shown_.set_id(options_.request.id());
  *shown_.mutable_address() = options_.request.address();
  // That of a socket found in a folder may be any bytes.
  if (shown_.address().has_unix_socket()) {
    v1::UnixMonitorAddress& socket = *shown_.mutable_address()->mutable_unix_socket();
    socket.set_path(ToUtf8(socket.path()));
  }
  shown_.set_origin(options_.origin);
}

void MonitoredInstance::Start(bool connects) {
  {
    MutexLock lock(&mutex_);
    SetState(v1::INSTANCE_STATE_CONNECTING, absl::OkStatus());
  }
  Tell(v1::INSTANCE_STATE_UNSPECIFIED);
  if (connects) BeginConnecting();
}

void MonitoredInstance::BeginConnecting() {
  MutexLock lock(&mutex_);
  if (!ends_) WaitAndConnect(absl::ZeroDuration());
}

void MonitoredInstance::Fail(const absl::Status& why) {
  InstanceState previous;
  {
    MutexLock lock(&mutex_);
    if (ends_) return;
    previous = shown_.state();
    SetState(v1::INSTANCE_STATE_FAILED, why);
  }
  Tell(previous);
}

void MonitoredInstance::ShowNextAttempt(absl::Duration delay) {
  backend::ToProto(context_.clock.Now() + delay, shown_.mutable_next_attempt_time());
}

void MonitoredInstance::WaitAndConnect(absl::Duration delay) {
  timer_ = context_.loop.RunAfter(delay, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Connect();
  });
}

// On the loop, so that no callback comes before `connection_` is set.
void MonitoredInstance::Connect() {
  MutexLock lock(&mutex_);
  timer_ = 0;
  if (ends_) return;
  shown_.clear_next_attempt_time();
  connection_ = Connection::Open(context_.loop, context_.workers, options_.address,
                                 weak_from_this(), options_.limits, &context_.lookups);
}

void MonitoredInstance::Poke() {
  context_.loop.Post([self = shared_from_this()] {
    {
      MutexLock lock(&self->mutex_);
      if (self->ends_ || self->timer_ == 0) return;
      if (!self->context_.loop.Cancel(self->timer_)) return;
      self->failures_ = 0;
    }
    self->Connect();
  });
}

bool MonitoredInstance::IsPresent(const std::shared_ptr<Connection>& connection) const {
  return connection_ == connection && !is_closing_;
}

void MonitoredInstance::OnReady(const Greeting& greeting) {
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(&mutex_);
    connection = connection_;
    // What an earlier one at this address said of itself.
    shown_.clear_name();
    shown_.clear_uuid();
    shown_.set_qemu_version(greeting.version);
    shown_.set_qemu_package(greeting.package);
    shown_.set_process_id(greeting.peer_pid);
  }
  if (connection == nullptr) return;
  if (IsTooOld(greeting.version)) {
    return connection->Close(
        Unusable(absl::StrCat("it is QEMU ", greeting.version, ", which is older than ",
                              kOldestMajor, ".", kOldestMinor)));
  }
  AskWhoItIs(connection);
  backend_->Attach(connection, greeting,
                   [weak = weak_from_this(), connection](const absl::Status& status) {
                     if (const auto self = weak.lock()) self->OnAttached(connection, status);
                   });
}

void MonitoredInstance::AskWhoItIs(const std::shared_ptr<Connection>& connection) {
  connection->ExecuteOwn("query-name", nullptr, [weak = weak_from_this()](const Reply& reply) {
    const auto self = weak.lock();
    if (self == nullptr || !reply.ok()) return;
    MutexLock lock(&self->mutex_);
    self->shown_.set_name(Utf8Prefix(Text(reply.value, "name"), kIdentityBytesMax));
  });
  connection->ExecuteOwn("query-uuid", nullptr, [weak = weak_from_this()](const Reply& reply) {
    const auto self = weak.lock();
    if (self == nullptr || !reply.ok()) return;
    MutexLock lock(&self->mutex_);
    self->shown_.set_uuid(Utf8Prefix(Text(reply.value, "UUID"), kIdentityBytesMax));
  });
  {
    MutexLock lock(&mutex_);
    asks_run_state_ = true;
    run_state_is_stale_ = false;
  }
  AskRunState(connection);
}

void MonitoredInstance::AskRunState(const std::shared_ptr<Connection>& connection) {
  connection->ExecuteOwn("query-status", nullptr,
                         [weak = weak_from_this(), connection](const Reply& reply) {
                           if (const auto self = weak.lock()) self->OnRunState(connection, reply);
                         });
}

void MonitoredInstance::OnRunState(const std::shared_ptr<Connection>& connection,
                                   const Reply& reply) {
  bool ask_again = false;
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    asks_run_state_ = false;
    if (!IsPresent(connection)) return;
    if (reply.error.has_value()) {
      // A storage daemon has no virtual machine to ask about.
      shown_.set_kind(reply.error->error_class == "CommandNotFound"
                          ? v1::INSTANCE_KIND_STORAGE_DAEMON
                          : v1::INSTANCE_KIND_SYSTEM);
    } else if (reply.ok()) {
      shown_.set_kind(v1::INSTANCE_KIND_SYSTEM);
      const v1::RunState run_state = RunStateOf(Text(reply.value, "status"));
      tell = shown_.state() == v1::INSTANCE_STATE_READY && run_state != shown_.run_state();
      shown_.set_run_state(run_state);
      ask_again = std::exchange(run_state_is_stale_, false);
      asks_run_state_ = ask_again;
    }
  }
  if (tell) Tell(v1::INSTANCE_STATE_READY);
  if (ask_again) AskRunState(connection);
}

void MonitoredInstance::OnAttached(const std::shared_ptr<Connection>& connection,
                                   const absl::Status& status) {
  if (!status.ok()) {
    // An UNAVAILABLE is of the connection, which has ended; anything else is of this QEMU.
    return connection->Close(absl::IsUnavailable(status) ? status : Unusable(status.message()));
  }
  InstanceState previous;
  {
    MutexLock lock(&mutex_);
    if (!IsPresent(connection)) return;
    previous = shown_.state();
    SetState(v1::INSTANCE_STATE_READY, absl::OkStatus());
    ready_since_ = context_.clock.Elapsed();
    v1::InstanceCounters& counters = *shown_.mutable_counters();
    counters.set_connections(counters.connections() + 1);
    counters.set_failed_attempts(0);
  }
  Tell(previous);
}

void MonitoredInstance::OnEvent(Json event) {
  const std::string name = Text(event, "event");
  std::shared_ptr<Connection> connection;
  if (std::find(std::begin(kRunStateEvents), std::end(kRunStateEvents), name) !=
      std::end(kRunStateEvents)) {
    MutexLock lock(&mutex_);
    if (asks_run_state_) {
      run_state_is_stale_ = true;
    } else {
      asks_run_state_ = connection_ != nullptr;
      connection = connection_;
    }
  }
  backend_->OnEvent(std::move(event));
  if (connection != nullptr) AskRunState(connection);
}

void MonitoredInstance::OnClosed(const absl::Status& closed) {
  const absl::Status why =
      MetadataOf(closed, "cause") == "garbage" ? Unusable(closed.message()) : closed;
  InstanceState previous;
  absl::Duration delay;
  bool has_failed = false;
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    is_closing_ = true;
    previous = shown_.state();
    const v1::ErrorReason previous_reason = shown_.error_reason();
    v1::InstanceCounters& counters = *shown_.mutable_counters();
    counters.set_unknown_replies(counters.unknown_replies() + connection_->surprise_count());
    shown_.clear_process_id();
    shown_.clear_run_state();
    asks_run_state_ = false;
    delay = NextState(why);
    if (!ends_) ShowNextAttempt(delay);
    has_failed = shown_.state() == v1::INSTANCE_STATE_FAILED;
    tell = !ends_ && (previous != shown_.state() || previous_reason != shown_.error_reason());
  }
  // One that worked before is tried again soon, whatever ended it: calls should be, too.
  backend_->Detach(has_failed ? why : closed,
                   absl::holds_alternative<UnixAddress>(options_.address.value()));
  if (tell) Tell(previous);
  std::shared_ptr<Connection> connection;  // Goes once the lock is let go.
  bool ends = false;
  {
    MutexLock lock(&mutex_);
    is_closing_ = false;
    connection = std::exchange(connection_, nullptr);
    ends = ends_;
    if (!ends) WaitAndConnect(delay);
  }
  ends ? Finish() : options_.on_closed();
}

// Decides what a connection that has ended makes of it, and how long to wait before the next.
absl::Duration MonitoredInstance::NextState(const absl::Status& why) {
  const bool was_ready = shown_.state() == v1::INSTANCE_STATE_READY;
  if (was_ready && context_.clock.Elapsed() - ready_since_ >= kSteadyMin) failures_ = 0;
  absl::Duration delay = kReconnectFirst;
  for (int i = 0; i < failures_ && delay < kReconnectMax; ++i) delay = 2 * delay;
  delay = std::min(delay, kReconnectMax);
  ++failures_;
  if (!was_ready) {
    v1::InstanceCounters& counters = *shown_.mutable_counters();
    counters.set_failed_attempts(counters.failed_attempts() + 1);
  }
  if (HasReason(why, Reason::kInstanceUnusable) && !was_ready) {
    SetState(v1::INSTANCE_STATE_FAILED, why);
    delay = kReconnectUnusable;
  } else {
    SetState(was_ready ? v1::INSTANCE_STATE_CONNECTING : v1::INSTANCE_STATE_UNREACHABLE, why);
  }
  return Jittered(delay);
}

void MonitoredInstance::SetState(InstanceState state, const absl::Status& why) {
  if (shown_.state() != state) backend::ToProto(context_.clock.Now(), shown_.mutable_state_time());
  shown_.set_state(state);
  shown_.set_error(ToUtf8(why.message()));
  shown_.set_error_reason(backend::ErrorReasonOf(why));
}

absl::Duration MonitoredInstance::Jittered(absl::Duration delay) const {
  return delay * (0.5 + 0.5 * options_.random());
}

absl::Status MonitoredInstance::Unusable(absl::string_view why) const {
  return Error(Reason::kInstanceUnusable,
               absl::StrCat("Instance '", options_.request.id(), "' at '",
                            options_.address.ToString(), "' cannot be used: ", why),
               {{"instance", options_.request.id()}});
}

void MonitoredInstance::Tell(InstanceState previous) {
  backend::Event event;
  v1::InstanceStateChangeEvent& change = *event.mutable_instance_state_change();
  *change.mutable_instance() = Describe();
  change.set_previous_state(previous);
  context_.log.Append(options_.request.id(), std::move(event));
}

void MonitoredInstance::End(Ending ending, std::function<void()> done) {
  context_.loop.Post([self = shared_from_this(), ending, done = std::move(done)]() mutable {
    std::shared_ptr<Connection> connection;
    {
      MutexLock lock(&self->mutex_);
      self->ends_ = true;
      self->ending_ = ending;
      self->on_end_ = std::move(done);
      connection = self->connection_;
      if (self->timer_ != 0) self->context_.loop.Cancel(std::exchange(self->timer_, 0));
    }
    if (connection == nullptr) return self->Finish();
    connection->Close(
        Error(Reason::kConnectionLost,
              absl::StrCat("Instance '", self->options_.request.id(),
                           ending == Ending::kStopped ? "': the service stops" : "' is deleted"),
              {{"instance", self->options_.request.id()}}));
  });
}

void MonitoredInstance::Finish() {
  std::function<void()> done;
  Ending ending;
  InstanceState previous;
  {
    MutexLock lock(&mutex_);
    done = std::exchange(on_end_, nullptr);
    ending = ending_;
    previous = shown_.state();
    if (ending != Ending::kStopped) SetState(v1::INSTANCE_STATE_DELETED, absl::OkStatus());
    shown_.clear_next_attempt_time();
  }
  if (ending == Ending::kStopped) return done();
  backend_->Detach(Error(Reason::kInstanceUnreachable, "it is deleted", {}), false);
  backend_->Retire(ending == Ending::kGone,
                   [self = shared_from_this(), previous, done = std::move(done)] {
                     self->Tell(previous);
                     done();
                   });
}

v1::Instance MonitoredInstance::Describe() const {
  MutexLock lock(&mutex_);
  v1::Instance described = shown_;
  v1::InstanceCounters& counters = *described.mutable_counters();
  counters.set_unknown_members(backend_->unknown_count());
  if (connection_ != nullptr && !is_closing_) {
    counters.set_unknown_replies(counters.unknown_replies() + connection_->surprise_count());
  }
  return described;
}

v1::InstanceState MonitoredInstance::state() const {
  MutexLock lock(&mutex_);
  return shown_.state();
}

void MonitoredInstance::SetOrigin(v1::InstanceOrigin origin) {
  MutexLock lock(&mutex_);
  shown_.set_origin(origin);
}

}  // namespace tidemark::qmp
