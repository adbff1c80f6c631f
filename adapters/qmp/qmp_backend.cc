// Requests. A request goes straight to the socket from the caller's thread. Only one that starts a
// job takes a detour, over a worker that stores what was asked for, and one that QEMU may not
// survive, over questions to it; later requests that change the graph wait behind these.
//
// What comes in is handled as it comes, one line after the other. Where one line cannot be told
// before QEMU has answered a question about it, everything behind it is held until then.
#include "adapters/qmp/qmp_backend.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/error_table.h"
#include "adapters/qmp/event_reader.h"
#include "adapters/qmp/job_request.h"
#include "adapters/qmp/nbd_guard.h"
#include "adapters/qmp/schema_check.h"
#include "adapters/qmp/wait_guard.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::FieldDescriptor;

// Between two tries to dismiss a job.
constexpr absl::Duration kDismissAgain = absl::Seconds(1);

enum class PauseVerb { kNone, kPause, kResume };

PauseVerb PauseVerbOf(absl::string_view command) {
  if (command == "job-pause" || command == "block-job-pause") return PauseVerb::kPause;
  if (command == "job-resume" || command == "block-job-resume") return PauseVerb::kResume;
  return PauseVerb::kNone;
}

bool IsDismissal(absl::string_view command) {
  return command == "job-dismiss" || command == "block-job-dismiss";
}

// The job that a verb is for: `id`, or by its historical name `device`.
std::string JobOfVerb(const google::protobuf::Message& request) {
  for (const char* const name : {"id", "device"}) {
    const FieldDescriptor* const field = request.GetDescriptor()->FindFieldByName(name);
    if (field != nullptr) return request.GetReflection()->GetString(request, field);
  }
  return "";
}

bool MayHaveHappened(const absl::Status& status) {
  return MetadataOf(status, "outcome") == "unknown";
}

}  // namespace

std::shared_ptr<QmpBackend> QmpBackend::Create(std::string instance, BridgeContext context,
                                               const Stored& stored) {
  std::shared_ptr<QmpBackend> backend(new QmpBackend(std::move(instance), context));
  const std::weak_ptr<QmpBackend> weak = backend;
  JobKeeper::Hooks hooks;
  hooks.dismiss = [weak](const std::string& id, JobKeeper::Generation generation) {
    if (const auto self = weak.lock()) self->Dismiss(id, generation);
  };
  hooks.gone = [weak](const std::string& id) {
    if (const auto self = weak.lock()) self->OnJobGone(id);
  };
  hooks.alive = [weak] {
    if (const auto self = weak.lock()) self->StartPolling();
  };
  backend->keeper_ =
      std::make_shared<JobKeeper>(backend->instance_, context.log, context.jobs, context.store,
                                  context.storing, context.clock, std::move(hooks));
  backend->keeper_->Restore(stored.jobs);
  backend->exports_ = std::make_shared<ExportKeeper>(backend->instance_, context.log, context.store,
                                                     context.storing);
  backend->exports_->Restore(stored.exports);
  return backend;
}

QmpBackend::QmpBackend(std::string instance, BridgeContext context)
    : instance_(std::move(instance)),
      context_(context),
      why_detached_(Error(Reason::kInstanceUnreachable,
                          absl::StrCat("Instance '", instance_, "' is not connected yet"),
                          {{"instance", instance_}})),
      detached_since_(context.clock.Elapsed()) {}

std::shared_ptr<const backend::Capabilities> QmpBackend::capabilities() const {
  MutexLock lock(&mutex_);
  return dialect_ == nullptr ? nullptr : dialect_->capabilities;
}

absl::Status QmpBackend::NotReady() const {
  if (state_ == State::kReady) return absl::OkStatus();
  return WithMetadata(why_detached_, "outcome", "not-sent");
}

void QmpBackend::Call(const backend::Command& command, const google::protobuf::Message& request,
                      google::protobuf::Message* result, Done done) {
  absl::Status status;
  std::shared_ptr<const Dialect> dialect;
  {
    MutexLock lock(&mutex_);
    status = NotReady();
    dialect = dialect_;
  }
  if (status.ok()) {
    status = CheckSupported(*dialect->schema, dialect->capabilities->version, command, request);
  }
  if (status.ok() && !context_.allow_remote_nbd) status = CheckNbdAddress(request);
  if (status.ok()) status = CheckWaits(request);
  if (!status.ok()) return done(WithMetadata(status, "instance", instance_));
  auto call = std::make_shared<Pending>();
  call->command = &command;
  call->request = &request;
  call->result = result;
  call->done = std::move(done);
  call->jobs = JobsStartedBy(request, instance_);
  call->is_named = call->jobs.empty() || !LacksJobId(request) ||
                   dialect->schema->FindCommand(kGraphQuery) == nullptr;
  call->precaution = Precaution::For(command, request, *dialect->schema);
  if (PauseVerbOf(command.qmp_name) != PauseVerb::kNone) call->paused_job = JobOfVerb(request);
  if (command.kind == backend::CommandKind::kJobVerb && AnswerAsGone(*call)) return;
  if (IsDismissal(command.qmp_name)) call->dismissed_job = JobOfVerb(request);
  if (call->jobs.empty()) {
    call->arguments = ToJson(request);
  } else {
    call->intent = keeper_->NewIntent();
    const std::unique_ptr<google::protobuf::Message> kept(request.New());
    kept->CopyFrom(request);
    KeepResults(kept.get());
    call->arguments = ToJson(*kept);
  }
  if (!call->dismissed_job.empty() && context_.store != nullptr) {
    if (RefuseAsUnfinished(*call)) return;
    SubmitWhenSaved(std::move(call));
  } else {
    Submit(std::move(call));
  }
}

// A job that has not been told to have ended cannot be dismissed. QEMU would say the same, unless
// it has ended just now: then its end would go before it is saved.
bool QmpBackend::RefuseAsUnfinished(const Pending& call) {
  const v1::JobStatus job = keeper_->StatusOf(call.dismissed_job);
  if (job == v1::JOB_STATUS_UNSPECIFIED || job == v1::JOB_STATUS_CONCLUDED) return false;
  const std::string state = ValueName(*v1::JobStatus_descriptor()->FindValueByNumber(job));
  const absl::Status status =
      AsQemuWould("GenericError",
                  absl::StrCat("Job '", call.dismissed_job, "' in state '", state,
                               "' cannot accept command verb 'dismiss'"),
                  call.command->qmp_name, *call.request);
  call.done(WithMetadata(status, "instance", instance_));
  return true;
}

// With the job goes its result, which until then must be in QEMU or in what is saved.
void QmpBackend::SubmitWhenSaved(PendingPtr call) {
  auto is_taken = std::make_shared<std::atomic<bool>>(false);
  // Of whoever sets that first. What waits for the disk must not keep a call that was refused.
  auto waiting = std::make_shared<PendingPtr>(std::move(call));
  // The caller must not be kept longer than its call: it may own us.
  const auto refuse = [id = (*waiting)->dismissed_job, instance = instance_](PendingPtr call) {
    call->done(Error(Reason::kIoError,
                     absl::StrCat("Job '", id, "' of '", instance,
                                  "' is not dismissed: its result cannot be saved for now"),
                     {{"job", id}, {"instance", instance}, {"outcome", "not-sent"}}));
  };
  context_.loop.RunAfter(kSavedWaitMax, [waiting, is_taken, refuse] {
    if (!is_taken->exchange(true)) refuse(std::move(*waiting));
  });
  context_.log.RunWhenSaved(
      context_.log.position(), [weak = weak_from_this(), waiting, is_taken, refuse] {
        if (is_taken->exchange(true)) return;
        const auto self = weak.lock();
        self != nullptr ? self->Submit(std::move(*waiting)) : refuse(std::move(*waiting));
      });
}

// For its starter a job that we are about to dismiss has gone: what QEMU would say then.
bool QmpBackend::AnswerAsGone(const Pending& call) {
  const std::string id = JobOfVerb(*call.request);
  if (!keeper_->IsLeaving(id)) return false;
  const bool is_block_verb = absl::StartsWith(call.command->qmp_name, "block-job-");
  const absl::Status status =
      is_block_verb
          ? AsQemuWould("DeviceNotActive", absl::StrCat("Block job '", id, "' not found"),
                        call.command->qmp_name, *call.request)
          : AsQemuWould("GenericError", "Job not found", call.command->qmp_name, *call.request);
  call.done(WithMetadata(status, "instance", instance_));
  return true;
}

void QmpBackend::Send(const PendingPtr& call) {
  if (!call->jobs.empty()) keeper_->Intend(call->intent, call->jobs);
  if (!call->dismissed_job.empty()) dismissing_.insert(call->dismissed_job);
  if (PauseVerbOf(call->command->qmp_name) == PauseVerb::kPause) {
    call->pause_wanted_before = keeper_->SetPauseWanted(call->paused_job, true);
  }
  connection_->Execute(call->command->qmp_name, std::move(call->arguments),
                       [self = shared_from_this(), call](Reply reply) {
                         self->Take([self, call, reply = std::move(reply)]() mutable {
                           self->Finish(call, std::move(reply));
                         });
                       });
}

void QmpBackend::Finish(const PendingPtr& call, Reply reply) {
  absl::Status status = reply.status;
  const PauseVerb verb = PauseVerbOf(call->command->qmp_name);
  if (!call->jobs.empty()) {
    keeper_->Settle(call->intent, call->jobs, reply.ok() || MayHaveHappened(reply.status));
  }
  if (reply.ok()) {
    if (verb == PauseVerb::kResume) keeper_->SetPauseWanted(call->paused_job, false);
    uint64_t unknown = 0;
    status = FromJson(reply.value, Strictness::kReply, call->result, &unknown);
    unknown_count_ += unknown;
    if (!status.ok()) {
      status = Error(Reason::kQemuRefused,
                     absl::StrCat("QEMU carried out '", call->command->qmp_name,
                                  "', but its reply is not understood: ", status.message()));
    }
    keeper_->Hide(call->result);
    exports_->OnCarriedOut(*call->request);
  } else if (verb == PauseVerb::kPause) {
    keeper_->SetPauseWanted(call->paused_job, call->pause_wanted_before);
  }
  if (reply.error.has_value()) {
    FinishRefused(call, *reply.error);
  } else {
    call->done(status.ok() ? status : WithMetadata(status, "instance", instance_));
  }
  if (call->dismissed_job.empty()) return;
  {
    MutexLock lock(&mutex_);
    dismissing_.erase(dismissing_.find(call->dismissed_job));
  }
  OnJobGone(call->dismissed_job);  // Or not: who waits for it finds out.
}

void QmpBackend::FinishRefused(const PendingPtr& call, const QmpError& error) {
  const absl::Status status =
      WithMetadata(FromQemu(error.error_class, error.desc, call->command->qmp_name, *call->request),
                   "instance", instance_);
  std::shared_ptr<Connection> connection;
  if (HasReason(status, Reason::kNodeReadOnly)) {
    MutexLock lock(&mutex_);
    if (dialect_ != nullptr && TellsInactiveByRunState(*dialect_->schema)) connection = connection_;
  }
  if (connection == nullptr) return call->done(status);
  // To this QEMU an inactive node is a read-only one.
  connection->ExecuteOwn("query-status", nullptr, [call, status](const Reply& reply) {
    call->done(reply.ok() && IsInactiveRunState(reply.value) ? OfInactive(status) : status);
  });
}

void QmpBackend::OnJobGone(const std::string& id) {
  std::vector<PendingPtr> calls;
  {
    MutexLock lock(&mutex_);
    const auto found = leaving_.find(id);
    if (found == leaving_.end()) return;
    calls = std::move(found->second);
    leaving_.erase(found);
  }
  for (PendingPtr& call : calls) Submit(std::move(call));
}

void QmpBackend::Dismiss(const std::string& id, JobKeeper::Generation generation) {
  MutexLock lock(&mutex_);
  // Found again when the connection is back; or its id is another job's by now.
  if (state_ == State::kDetached || !keeper_->IsLeaving(id, generation)) return;
  connection_->ExecuteOwn("job-dismiss", Json{{"id", id}},
                          [weak = weak_from_this(), id, generation](const Reply& reply) {
                            const auto self = weak.lock();
                            // Not sent, for too much waits to be sent. A broken connection comes
                            // back to it by itself.
                            if (self == nullptr || reply.status.ok()) return;
                            self->context_.loop.RunAfter(kDismissAgain, [weak, id, generation] {
                              if (const auto later = weak.lock()) later->Dismiss(id, generation);
                            });
                          });
}

void QmpBackend::OnEvent(Json event) {
  Take([self = shared_from_this(), event = std::move(event)] { self->Handle(event); });
}

void QmpBackend::Take(std::function<void()> handle) {
  {
    MutexLock lock(&inbound_mutex_);
    if (holds_ > 0 || releasing_) {
      held_.push_back(std::move(handle));
      const bool is_long = holds_ > 0 && context_.clock.Elapsed() - held_since_ > kHeldMaxTime;
      if (held_.size() <= kHeldMax && !is_long) return;
    }
  }
  handle == nullptr ? GiveUpHolding() : handle();
}

// The peer answers everything but what it is asked for. All that waits is told when the connection
// has ended, which answers the question, too.
void QmpBackend::GiveUpHolding() {
  MutexLock lock(&mutex_);
  if (connection_ == nullptr) return;
  connection_->Close(Error(
      Reason::kConnectionLost,
      absl::StrCat("the monitor of '", instance_, "' does not answer what it is asked about jobs"),
      {{"cause", "garbage"}}));
}

void QmpBackend::Hold() {
  MutexLock lock(&inbound_mutex_);
  if (holds_++ == 0) held_since_ = context_.clock.Elapsed();
}

void QmpBackend::Release() {
  {
    MutexLock lock(&inbound_mutex_);
    --holds_;
    // Who is at it goes on with what this may have set free.
    if (std::exchange(releasing_, true)) return;
  }
  while (true) {
    std::function<void()> next;
    {
      MutexLock lock(&inbound_mutex_);
      if (holds_ > 0 || held_.empty()) {
        releasing_ = false;
        return;
      }
      next = std::move(held_.front());
      held_.pop_front();
    }
    next();
  }
}

void QmpBackend::Handle(const Json& json) {
  uint64_t unknown = 0;
  auto event = ReadEvent(json, &unknown);
  // One that is not understood is one that the API does not have.
  if (!event.ok() || !event->has_value()) ++unknown;
  unknown_count_ += unknown;
  if (!event.ok() || !event->has_value()) return;
  if (!keeper_->NeedsResult(**event)) return Tell(**std::move(event));
  // How such a job ended QEMU tells only if asked, and everybody should know with its end.
  Hold();
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(&mutex_);
    connection = connection_;
  }
  connection->ExecuteOwn(
      "query-jobs", nullptr,
      [self = shared_from_this(), event = **std::move(event)](Reply reply) mutable {
        v1::QueryJobsResponse jobs;
        if (reply.ok() && FromJson(reply.value, Strictness::kReply, &jobs).ok()) {
          self->keeper_->SetResult(jobs, event.job_status_change().id());
        }
        self->Tell(std::move(event));
        self->Release();
      });
}

void QmpBackend::Tell(backend::Event event) {
  if (event.has_block_export_deleted()) return exports_->OnDeleted(std::move(event));
  keeper_->OnEvent(std::move(event));
}

}  // namespace tidemark::qmp
