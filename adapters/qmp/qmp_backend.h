// A live QEMU as a Backend. It outlives connections: its owner makes them, and attaches each one
// that is ready; between two, every call is refused at once with the reason.
//
// Nothing is sent that this QEMU does not understand (schema_check.h). Replies and events reach
// clients in the order in which QEMU sent them.
#ifndef ADAPTERS_QMP_QMP_BACKEND_H_
#define ADAPTERS_QMP_QMP_BACKEND_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/connection.h"
#include "adapters/qmp/dialect.h"
#include "adapters/qmp/export_keeper.h"
#include "adapters/qmp/io_loop.h"
#include "adapters/qmp/job_keeper.h"
#include "adapters/qmp/precaution.h"
#include "engine/backend/backend.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/backend/state_store.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

// What all virtual machines share. All of it outlives every backend and what it has posted.
struct BridgeContext {
  IoLoop& loop;
  Executor& workers;
  // What is stored of jobs and exports: a slow disk keeps nothing else waiting.
  Executor& storing;
  // Names of hosts and sockets are looked up here, which may take for ever.
  LookupPool& lookups;
  backend::EventLog& log;
  const backend::JobBook& jobs;
  // Null: nothing outlives the process.
  backend::StateStore* store;
  Clock& clock;
  DialectCache& dialects;
  // QEMU may be told to listen for NBD clients without TLS where other machines reach it
  // (nbd_guard.h).
  bool allow_remote_nbd = false;
};

class QmpBackend final : public backend::Backend, public std::enable_shared_from_this<QmpBackend> {
 public:
  // What an earlier process stored for this instance.
  struct Stored {
    std::vector<::tidemark::block::v1::Job> jobs;
    std::vector<::tidemark::block::v1::BlockExportInfo> exports;
  };
  static std::shared_ptr<QmpBackend> Create(std::string instance, BridgeContext context,
                                            const Stored& stored);

  // --- Backend. Any thread; never blocks.
  void Call(const backend::Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* result, Done done) override;
  std::shared_ptr<const backend::Capabilities> capabilities() const override;

  // --- For the owner, who listens to the connection. In the order of the wire, one at a time.

  // Learns what QEMU understands and what became of its jobs and exports. `done` runs once: OK when
  // calls are taken, else why they cannot be; the owner then closes the connection.
  void Attach(std::shared_ptr<Connection> connection, const Greeting& greeting, Done done);
  // As Connection::Listener::OnEvent. From the moment of Attach on.
  void OnEvent(Json event);
  // From OnClosed, and after each connect that failed. Calls are refused from now on, and say why.
  // `is_local`: the monitor is a socket of this machine, where a refusal means that QEMU has ended.
  void Detach(const absl::Status& why, bool is_local);

  // The instance is given up: its jobs and exports leave the books, and then `done` runs. After
  // Detach. `has_gone`: so has its QEMU, as far as its socket tells.
  void Retire(bool has_gone, std::function<void()> done);

  // Members, values and events of QEMU's that the API does not have.
  uint64_t unknown_count() const { return unknown_count_; }

 private:
  enum class State { kDetached, kAttaching, kReady };
  // A request on its way.
  struct Pending {
    const backend::Command* command;
    const google::protobuf::Message* request;
    google::protobuf::Message* result;
    Done done;
    Json arguments;
    std::vector<::tidemark::block::v1::Job> jobs;
    // Of a verb that pauses a job or lets it go on: which job, and what was wanted before.
    std::string paused_job;
    bool pause_wanted_before = false;
    // Of one that starts jobs.
    JobKeeper::Intent intent = 0;
    // Of one that dismisses a job.
    std::string dismissed_job;
    // Its jobs have the ids that QEMU will give them.
    bool is_named = true;
    // Its jobs are stored.
    bool is_stored = false;
    // What must be asked before it is sent.
    absl::optional<Precaution> precaution;
    // It is the first in the queue, and QEMU has been asked.
    bool is_asking = false;
    // How often it has come into the queue.
    int queued_count = 0;
  };
  using PendingPtr = std::shared_ptr<Pending>;

  QmpBackend(std::string instance, BridgeContext context);

  // Requests.
  void Submit(PendingPtr call);
  bool RefuseAsUnfinished(const Pending& call);
  void SubmitWhenSaved(PendingPtr call);
  bool WaitsForId(const PendingPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUpWaiting(const std::string& id, const PendingPtr& call);
  void GiveUpStoring(const PendingPtr& call, int queued_count);
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskForNames(const PendingPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnNamed(const PendingPtr& call, const Reply& graph);
  void Ask(const PendingPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnAnswered(const PendingPtr& call, const Precaution::Answers& answers);
  void Send(const PendingPtr& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StoreFront();
  void PostStore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(const PendingPtr& call, Reply reply);
  void FinishRefused(const PendingPtr& call, const QmpError& error);
  absl::Status NotReady() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What comes in.
  void Take(std::function<void()> handle);
  void Hold();
  void GiveUpHolding();
  void Release();
  void Handle(const Json& json);
  void Tell(backend::Event event);

  // Connecting.
  void LearnExports(const std::shared_ptr<Connection>& connection, bool same_qemu, Done done);
  void LearnJobs(const std::shared_ptr<Connection>& connection, bool same_qemu, Done done);
  void AskForJobs(const std::shared_ptr<Connection>& connection,
                  std::function<void(absl::Status)> failed,
                  std::function<void(const ::tidemark::block::v1::QueryJobsResponse&,
                                     const ::tidemark::block::v1::QueryBlockJobsResponse&)>
                      answered);

  // Jobs.
  void OnJobGone(const std::string& id);
  void Dismiss(const std::string& id, JobKeeper::Generation generation);
  bool AnswerAsGone(const Pending& call);
  void StartPolling();
  void Poll();
  void WatchPeer(absl::Duration delay);
  void EndAll();

  // Constant after construction.
  const std::string instance_;
  const BridgeContext context_;
  std::shared_ptr<JobKeeper> keeper_;
  std::shared_ptr<ExportKeeper> exports_;

  // Synchronise themselves.
  std::atomic<uint64_t> unknown_count_ = 0;

  mutable Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kDetached;
  absl::Status why_detached_ ABSL_GUARDED_BY(mutex_);
  // On the clock's Elapsed(): since when nothing is connected.
  absl::Duration detached_since_ ABSL_GUARDED_BY(mutex_);
  // The present one, or the last.
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  Greeting greeting_ ABSL_GUARDED_BY(mutex_);
  // The present connection is to another process than the books are of.
  bool is_another_qemu_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const Dialect> dialect_ ABSL_GUARDED_BY(mutex_);
  // Calls that wait until the jobs of the first are stored, and what must be known before it is
  // sent, in the order called.
  std::deque<PendingPtr> queue_ ABSL_GUARDED_BY(mutex_);
  // Calls that start a job whose id is about to be free, by that id.
  std::map<std::string, std::vector<PendingPtr>> leaving_ ABSL_GUARDED_BY(mutex_);
  // Jobs whose dismissal clients have asked for and QEMU has not answered.
  std::multiset<std::string> dismissing_ ABSL_GUARDED_BY(mutex_);
  bool polling_ ABSL_GUARDED_BY(mutex_) = false;
  bool watching_peer_ ABSL_GUARDED_BY(mutex_) = false;

  Mutex inbound_mutex_;
  // What came while an answer was waited for that must be told first.
  std::deque<std::function<void()>> held_ ABSL_GUARDED_BY(inbound_mutex_);
  // Questions whose answers are waited for.
  int holds_ ABSL_GUARDED_BY(inbound_mutex_) = 0;
  // What was held is being handled.
  bool releasing_ ABSL_GUARDED_BY(inbound_mutex_) = false;
  // On the clock's Elapsed(): when the first of them was asked.
  absl::Duration held_since_ ABSL_GUARDED_BY(inbound_mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_QMP_BACKEND_H_
