// Connections: what is learned from each one, and what happens between two.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/qmp_backend.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// Between two questions for progress, and before the first for a new job.
constexpr absl::Duration kProgressInterval = absl::Milliseconds(250);
constexpr absl::Duration kFirstProgress = absl::Milliseconds(50);
// Between two looks whether a QEMU that cannot be reached has ended: from the first to the last.
constexpr absl::Duration kPeerLook = absl::Milliseconds(50);
constexpr absl::Duration kPeerLookMax = absl::Seconds(5);

constexpr char kQemuEnded[] = "QEMU ended while the job ran";
constexpr char kRetired[] = "The instance was deleted while the job ran; QEMU may go on with it";

// How the answer to `question` ended. It may be no QEMU that answers: its words are not passed on.
absl::Status StatusOf(const Reply& reply, absl::string_view question) {
  if (!reply.error.has_value()) return reply.status;
  return Error(Reason::kQemuRefused, absl::StrCat("it refuses ", question));
}

}  // namespace

void QmpBackend::Attach(std::shared_ptr<Connection> connection, const Greeting& greeting,
                        Done done) {
  bool same_qemu = true;
  {
    MutexLock lock(&mutex_);
    if (connection_ != nullptr && connection_->peer_has_exited()) is_another_qemu_ = true;
    // Others than QEMU itself may have been started anew in between, and QEMU not.
    const bool are_known =
        connection_ != nullptr && connection_->peer_is_watched() && connection->peer_is_watched();
    if (are_known && greeting_.peer_pid != greeting.peer_pid) is_another_qemu_ = true;
    same_qemu = !is_another_qemu_;
    connection_ = connection;
    greeting_ = greeting;
    state_ = State::kAttaching;
    why_detached_ = Error(Reason::kInstanceUnreachable,
                          absl::StrCat("Instance '", instance_, "' is being connected"),
                          {{"instance", instance_}});
  }
  keeper_->OnAttach();
  Connection& wire = *connection;
  wire.ExecuteOwn("query-qmp-schema", nullptr,
                  [self = shared_from_this(), connection = std::move(connection),
                   version = greeting.version, same_qemu, done = std::move(done)](Reply reply) {
                    if (!reply.ok()) return done(StatusOf(reply, "query-qmp-schema"));
                    auto dialect = self->context_.dialects.Get(version, reply.value);
                    if (!dialect.ok()) return done(dialect.status());
                    {
                      MutexLock lock(&self->mutex_);
                      self->dialect_ = *std::move(dialect);
                    }
                    self->LearnExports(connection, same_qemu, done);
                  });
}

// Nothing is held yet: what has gone before the answer has been told.
void QmpBackend::LearnExports(const std::shared_ptr<Connection>& connection, bool same_qemu,
                              Done done) {
  connection->ExecuteOwn(
      "query-block-exports", nullptr,
      [self = shared_from_this(), connection, same_qemu, done = std::move(done)](Reply reply) {
        v1::QueryBlockExportsResponse exports;
        absl::Status status = StatusOf(reply, "query-block-exports");
        if (status.ok()) {
          status = FromJson(reply.value, Strictness::kReply, &exports);
        }
        if (!status.ok()) return done(std::move(status));
        self->exports_->Reconcile(exports, same_qemu);
        self->LearnJobs(connection, same_qemu, done);
      });
}

void QmpBackend::LearnJobs(const std::shared_ptr<Connection>& connection, bool same_qemu,
                           Done done) {
  AskForJobs(
      connection,
      [self = shared_from_this(), done](absl::Status status) {
        self->Release();
        done(std::move(status));
      },
      [self = shared_from_this(), same_qemu, done](const auto& jobs, const auto& block_jobs) {
        self->keeper_->Reconcile(jobs, block_jobs, same_qemu);
        {
          MutexLock lock(&self->mutex_);
          self->is_another_qemu_ = false;
          if (self->state_ == State::kAttaching) self->state_ = State::kReady;
        }
        // Before what was held, which may be the end of a job that a watcher of `done` waits for.
        done(absl::OkStatus());
        self->Release();
        self->StartPolling();
      });
}

// The second question is answered when the first is long told, and events may lie between: they are
// held, so that the first answer is the truth when both are used.
void QmpBackend::AskForJobs(
    const std::shared_ptr<Connection>& connection, std::function<void(absl::Status)> failed,
    std::function<void(const v1::QueryJobsResponse&, const v1::QueryBlockJobsResponse&)> answered) {
  auto jobs = std::make_shared<absl::StatusOr<v1::QueryJobsResponse>>(v1::QueryJobsResponse());
  auto is_held = std::make_shared<bool>(false);
  connection->ExecuteOwn("query-jobs", nullptr,
                         [self = shared_from_this(), jobs, is_held](Reply reply) {
                           // The second was refused before it could be sent.
                           if (std::exchange(*is_held, true)) return;
                           self->Hold();
                           absl::Status status = StatusOf(reply, "query-jobs");
                           if (status.ok())
                             status = FromJson(reply.value, Strictness::kReply, &**jobs);
                           if (!status.ok()) *jobs = status;
                         });
  connection->ExecuteOwn("query-block-jobs", nullptr,
                         [self = shared_from_this(), jobs, is_held, failed, answered](Reply reply) {
                           v1::QueryBlockJobsResponse block_jobs;
                           if (!std::exchange(*is_held, true)) self->Hold();
                           absl::Status status = jobs->status();
                           if (status.ok()) status = StatusOf(reply, "query-block-jobs");
                           if (status.ok())
                             status = FromJson(reply.value, Strictness::kReply, &block_jobs);
                           status.ok() ? answered(**jobs, block_jobs) : failed(std::move(status));
                         });
}

void QmpBackend::Detach(const absl::Status& why, bool is_local) {
  std::vector<PendingPtr> calls;
  absl::Status refusal;
  bool has_ended = false;
  {
    MutexLock lock(&mutex_);
    const State was = std::exchange(state_, State::kDetached);
    why_detached_ =
        HasReason(why, Reason::kInstanceUnusable)
            ? why
            : Error(Reason::kInstanceUnreachable,
                    absl::StrCat("Instance '", instance_, "' cannot be reached: ", why.message()),
                    {});
    if (was != State::kDetached) detached_since_ = context_.clock.Elapsed();
    // One whose process is watched has ended when that has: WatchPeer sees to it. Of others it is
    // believed when the kernel says that nobody holds the socket, or after a while: always that
    // where some other program lies between.
    const bool is_watched = connection_ != nullptr && connection_->peer_is_watched();
    const bool is_proxied = !is_watched && greeting_.peer_pid != 0;
    const bool is_long = context_.clock.Elapsed() - detached_since_ >= kGoneAfter;
    const std::string cause = MetadataOf(why, "cause");
    has_ended = !is_watched && ((is_local && !is_proxied && cause == "refused") ||
                                (is_long && (cause == "refused" || cause == "absent")));
    refusal = NotReady();
    calls.assign(queue_.begin(), queue_.end());
    queue_.clear();
    for (auto& [id, waiting] : leaving_) calls.insert(calls.end(), waiting.begin(), waiting.end());
    leaving_.clear();
  }
  for (const PendingPtr& call : calls) {
    if (call->is_stored && !call->jobs.empty()) keeper_->Discard(call->intent, call->jobs);
    call->done(WithMetadata(refusal, "instance", instance_));
  }
  if (has_ended) EndAll();
  WatchPeer(absl::ZeroDuration());
}

// A killed QEMU closes its socket a moment before it has ended, and a stalled one may be killed
// later: while jobs or exports live, somebody has to look.
void QmpBackend::WatchPeer(absl::Duration delay) {
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(&mutex_);
    if (delay > absl::ZeroDuration()) watching_peer_ = false;
    if (state_ != State::kDetached || connection_ == nullptr || watching_peer_) return;
    connection = connection_;
  }
  if (!keeper_->AnyLives() && !exports_->AnyLives()) return;
  if (connection->peer_has_exited()) return EndAll();
  const absl::Duration next = std::min(std::max(2 * delay, kPeerLook), kPeerLookMax);
  {
    MutexLock lock(&mutex_);
    watching_peer_ = true;
  }
  context_.loop.RunAfter(next, [weak = weak_from_this(), next] {
    if (const auto self = weak.lock()) self->WatchPeer(next);
  });
}

// Behind what is still held of the connection that has ended.
void QmpBackend::EndAll() {
  Take([self = shared_from_this()] {
    self->keeper_->EndAll(kQemuEnded);
    self->exports_->EndAll();
  });
}

// Behind what is still held, too.
void QmpBackend::Retire(bool has_gone, std::function<void()> done) {
  bool lives = true;
  {
    MutexLock lock(&mutex_);
    // One that other programs lie before may have lost only those.
    const bool is_watched = connection_ != nullptr && connection_->peer_is_watched();
    if (is_watched)
      lives = !connection_->peer_has_exited();
    else if (connection_ != nullptr && greeting_.peer_pid == 0)
      lives = !has_gone;
  }
  Take([self = shared_from_this(), lives, done = std::move(done)] {
    self->keeper_->EndAll(lives ? kRetired : kQemuEnded);
    lives ? self->exports_->Forget() : self->exports_->EndAll();
    done();
  });
}

void QmpBackend::StartPolling() {
  {
    MutexLock lock(&mutex_);
    if (polling_ || state_ != State::kReady) return;
    polling_ = true;
  }
  context_.loop.RunAfter(kFirstProgress, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Poll();
  });
}

// One pair of questions for all jobs of the virtual machine, and none while nothing runs.
void QmpBackend::Poll() {
  std::shared_ptr<Connection> connection;
  {
    MutexLock lock(&mutex_);
    if (state_ != State::kReady || !keeper_->AnyLives()) {
      polling_ = false;
      return;
    }
    connection = connection_;
  }
  const auto again = [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->Release();
    self->context_.loop.RunAfter(kProgressInterval, [weak] {
      if (const auto later = weak.lock()) later->Poll();
    });
  };
  AskForJobs(
      connection, [again](const absl::Status&) { again(); },
      [self = shared_from_this(), again](const auto& jobs, const auto& block_jobs) {
        self->keeper_->OnFigures(jobs, block_jobs);
        again();
      });
}

}  // namespace tidemark::qmp
