// From a call that is accepted to its place on the wire. Most are sent at once. Of one that starts
// a job, the job's name is learned, if QEMU chooses it, and the job is stored; and what QEMU may
// not survive is asked about (precaution.h). All that is done at the head of the queue, and what
// changes the graph waits behind it.
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/error_table.h"
#include "adapters/qmp/graph_view.h"
#include "adapters/qmp/job_request.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/qmp_backend.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;

void QmpBackend::Submit(PendingPtr call) {
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    status = NotReady();
    if (status.ok()) {
      if (WaitsForId(call)) return;
      call->is_stored |= call->jobs.empty() || context_.store == nullptr;
      const bool waits = call->command->kind == backend::CommandKind::kGraph && !queue_.empty();
      const bool is_ready = call->is_named && call->is_stored && !call->precaution.has_value();
      if (is_ready && !waits) return Send(call);
      if (queue_.size() < kCommandsWaitingMax) {
        context_.loop.RunAfter(kSavedWaitMax,
                               [weak = weak_from_this(), waiting = std::weak_ptr<Pending>(call),
                                count = ++call->queued_count] {
                                 const auto self = weak.lock();
                                 const auto call = waiting.lock();
                                 if (self == nullptr || call == nullptr) return;
                                 self->GiveUpStoring(call, count);
                               });
        queue_.push_back(std::move(call));
        if (queue_.size() == 1) Advance();
        return;
      }
      status = Error(Reason::kLimitReached,
                     absl::StrCat("cannot run ", call->command->qmp_name, " on '", instance_,
                                  "': ", queue_.size(), " commands wait already"),
                     {{"outcome", "not-sent"}});
    }
  }
  call->done(WithMetadata(status, "instance", instance_));
}

// Until the job that has its id, and is about to go, is gone; but not for ever, for that waits for
// a disk.
bool QmpBackend::WaitsForId(const PendingPtr& call) {
  if (!call->is_named) return false;
  for (const v1::Job& job : call->jobs) {
    const std::string& id = job.id();
    if (!keeper_->IsLeaving(id) && dismissing_.count(id) == 0) continue;
    leaving_[id].push_back(call);
    context_.loop.RunAfter(kSavedWaitMax,
                           [weak = weak_from_this(), id, waiting = std::weak_ptr<Pending>(call)] {
                             const auto self = weak.lock();
                             const auto call = waiting.lock();
                             if (self != nullptr && call != nullptr) self->GiveUpWaiting(id, call);
                           });
    return true;
  }
  return false;
}

void QmpBackend::GiveUpWaiting(const std::string& id, const PendingPtr& call) {
  {
    MutexLock lock(&mutex_);
    const auto found = leaving_.find(id);
    if (found == leaving_.end() || std::erase(found->second, call) == 0) return;
    if (found->second.empty()) leaving_.erase(found);
  }
  const absl::Status status =
      AsQemuWould("GenericError", absl::StrCat("Job ID '", id, "' already in use"),
                  call->command->qmp_name, *call->request);
  call->done(WithMetadata(status, "instance", instance_));
}

// The disk is slow: its own store may be at work still, and then finds it gone. A QEMU that does
// not answer is given up with its connection.
void QmpBackend::GiveUpStoring(const PendingPtr& call, int queued_count) {
  {
    MutexLock lock(&mutex_);
    const bool is_front = !queue_.empty() && queue_.front() == call;
    if (call->queued_count != queued_count || call->is_asking) return;
    if (std::erase(queue_, call) == 0) return;
    if (is_front) Advance();
  }
  if (call->is_stored && !call->jobs.empty()) keeper_->Discard(call->intent, call->jobs);
  call->done(Error(Reason::kIoError,
                   absl::StrCat(call->command->qmp_name, " was not sent to '", instance_,
                                "': jobs cannot be recorded, or QEMU does not answer, for now"),
                   {{"instance", instance_}, {"outcome", "not-sent"}}));
}

void QmpBackend::PostStore() {
  context_.storing.Post([self = shared_from_this()] { self->StoreFront(); });
}

// Stores the jobs of the first call in the queue.
void QmpBackend::StoreFront() {
  PendingPtr front;
  {
    MutexLock lock(&mutex_);
    if (queue_.empty() || queue_.front()->is_stored) return;  // Detached meanwhile.
    front = queue_.front();
  }
  const absl::Status stored = keeper_->Store(front->intent, front->jobs);
  bool is_detached = false;
  bool waits = false;
  {
    MutexLock lock(&mutex_);
    is_detached = queue_.empty() || queue_.front() != front;
    // An id that was taken has become free meanwhile.
    if (!is_detached && stored.ok() && !keeper_->IsStored(front->intent, front->jobs)) {
      return PostStore();
    }
    waits = !is_detached && stored.ok() && WaitsForId(front);
    front->is_stored = !is_detached && stored.ok() && !waits;
    if (!is_detached && !front->is_stored) queue_.pop_front();
    if (!is_detached) Advance();
  }
  if (is_detached || waits || !stored.ok()) keeper_->Discard(front->intent, front->jobs);
  if (!is_detached && !stored.ok()) {
    front->done(Annotate(
        stored, absl::StrCat("The job cannot be recorded before it starts on '", instance_, "'")));
  }
}

// Sends the first in the queue, and those behind it up to the next that must be stored or asked
// about.
void QmpBackend::Advance() {
  while (!queue_.empty()) {
    const PendingPtr front = queue_.front();
    if (!front->is_named) return AskForNames(front);
    if (!front->is_stored) return PostStore();
    if (front->precaution.has_value()) return Ask(front);
    queue_.pop_front();
    Send(front);
  }
}

void QmpBackend::AskForNames(const PendingPtr& call) {
  call->is_asking = true;
  // The client asks for a job, not for this.
  connection_->ExecuteOwn(
      kGraphQuery, nullptr,
      [self = shared_from_this(), call](const Reply& graph) { self->OnNamed(call, graph); });
}

void QmpBackend::OnNamed(const PendingPtr& call, const Reply& graph) {
  {
    MutexLock lock(&mutex_);
    if (queue_.empty() || queue_.front() != call) return;  // Detached, which has answered it.
    if (graph.ok()) NameAfterDrives(*call->request, GraphView(graph.value, Json()), &call->jobs);
    call->is_named = true;
    call->is_asking = false;
    // Under a name that may be another's no result would be found.
    if (!graph.status.ok() || WaitsForId(call)) queue_.pop_front();
    Advance();
  }
  if (graph.status.ok()) return;
  call->done(
      WithMetadata(WithMetadata(graph.status, "outcome", "not-sent"), "instance", instance_));
}

void QmpBackend::Ask(const PendingPtr& call) {
  struct Asked {
    Precaution::Answers answers;
    std::atomic<size_t> missing;
  };
  call->is_asking = true;
  const auto& questions = call->precaution->questions();
  auto asked = std::make_shared<Asked>();
  asked->answers.resize(questions.size());
  // One more, so that a precaution without a question is judged too, and none under the lock.
  asked->missing = questions.size() + 1;
  const auto take = [self = shared_from_this(), call, asked] {
    if (--asked->missing == 0) self->OnAnswered(call, asked->answers);
  };
  for (size_t i = 0; i < questions.size(); ++i) {
    connection_->ExecuteOwn(questions[i].command, questions[i].arguments,
                            [asked, i, take](Reply reply) {
                              asked->answers[i] = std::move(reply);
                              take();
                            });
  }
  context_.loop.Post(take);
}

void QmpBackend::OnAnswered(const PendingPtr& call, const Precaution::Answers& answers) {
  absl::Status status = call->precaution->Judge(answers);
  if (!status.ok()) status = WithMetadata(status, "outcome", "not-sent");
  {
    MutexLock lock(&mutex_);
    if (queue_.empty() || queue_.front() != call) return;  // Detached, which has answered it.
    queue_.pop_front();
    if (status.ok()) Send(call);
    Advance();
  }
  if (status.ok()) return;
  if (!call->jobs.empty()) keeper_->Discard(call->intent, call->jobs);
  call->done(WithMetadata(status, "instance", instance_));
}

}  // namespace tidemark::qmp
