// The books of one virtual machine's jobs. It adds to QEMU's events what their starters asked for,
// tells progress, keeps each result until it is in the log, and after a break finds out what was
// missed.
//
// A job whose starter wants it to go by itself when it ends is made to wait for job-dismiss all the
// same (job_request.h); once its end is safe in the log it is dismissed from here. Clients see
// neither: not in events, not in queries.
//
// Calls that say so are made in the order of the wire, one at a time; all others from any thread.
// None but Store blocks. `log`, `jobs`, `store` and `workers` must outlive the keeper and what it
// has posted.
#ifndef ADAPTERS_QMP_JOB_KEEPER_H_
#define ADAPTERS_QMP_JOB_KEEPER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/backend/state_store.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "tidemark/block/v1/job.pb.h"

namespace tidemark::qmp {

class JobKeeper : public std::enable_shared_from_this<JobKeeper> {
 public:
  // Tells a job from others that had or will have its id, within this process.
  using Generation = uint64_t;
  // What the owner does for the keeper; called without locks, on any thread.
  struct Hooks {
    // Sends job-dismiss.
    std::function<void(const std::string& id, Generation generation)> dismiss;
    // A job is gone: its id is free.
    std::function<void(const std::string& id)> gone;
    // A job began to live.
    std::function<void()> alive;
  };
  // Null `store`: nothing outlives the process.
  JobKeeper(std::string instance, backend::EventLog& log, const backend::JobBook& jobs,
            backend::StateStore* store, Executor& workers, Clock& clock, Hooks hooks);

  // Jobs that an earlier process stored. Before anything else.
  void Restore(const std::vector<::tidemark::block::v1::Job>& stored);

  // --- Requests.
  // A request that starts `jobs` goes through Store, Intend and Settle, or Store and Discard. Its
  // number, never 0:
  using Intent = uint64_t;
  Intent NewIntent();
  // Stores its jobs. Blocks: workers only. A job whose id is taken is not stored, for the id's row
  // is of the job that has it.
  absl::Status Store(Intent intent, const std::vector<::tidemark::block::v1::Job>& jobs);
  // Whether each of them is stored, or its id is taken, so that QEMU will refuse it.
  bool IsStored(Intent intent, const std::vector<::tidemark::block::v1::Job>& jobs) const;
  // What was stored will not be sent.
  void Discard(Intent intent, const std::vector<::tidemark::block::v1::Job>& jobs);
  // It is about to be sent.
  void Intend(Intent intent, const std::vector<::tidemark::block::v1::Job>& jobs);
  // QEMU has answered, or never will. What did not begin by then is forgotten, unless it may still
  // be told or found to have begun (`may_begin`).
  void Settle(Intent intent, const std::vector<::tidemark::block::v1::Job>& jobs, bool may_begin);
  // The job has ended and is about to be dismissed from here: its id will be free at once.
  bool IsLeaving(const std::string& id) const;
  bool IsLeaving(const std::string& id, Generation generation) const;
  // As last told; UNSPECIFIED if the job is not in the books.
  ::tidemark::block::v1::JobStatus StatusOf(const std::string& id) const;
  // A user holds the job, or lets it go. Returns what was so before.
  bool SetPauseWanted(const std::string& id, bool wanted);
  // Takes out of a query's answer what clients must not see.
  void Hide(google::protobuf::Message* answer) const;

  // --- What QEMU says, in the order of the wire.
  // A new connection: which jobs there are is not known until Reconcile.
  void OnAttach();
  // Any event of the virtual machine: appends it to the log, with what belongs to it.
  void OnEvent(backend::Event event);
  // Whether the event must not be told before query-jobs has been asked how the job ended.
  bool NeedsResult(const backend::Event& event) const;
  void SetResult(const ::tidemark::block::v1::QueryJobsResponse& answer, const std::string& id);
  // The connection is back. `same_qemu`: it may be the process that it was.
  void Reconcile(const ::tidemark::block::v1::QueryJobsResponse& jobs,
                 const ::tidemark::block::v1::QueryBlockJobsResponse& block_jobs, bool same_qemu);
  // Answers to the regular question.
  void OnFigures(const ::tidemark::block::v1::QueryJobsResponse& jobs,
                 const ::tidemark::block::v1::QueryBlockJobsResponse& block_jobs);
  // No job lives any more, for the reason given.
  void EndAll(absl::string_view error);

  // Whether any job has not ended.
  bool AnyLives() const;

 private:
  using Job = ::tidemark::block::v1::Job;
  using JobInfo = ::tidemark::block::v1::JobInfo;
  using BlockJobInfo = ::tidemark::block::v1::BlockJobInfo;
  using JobStatus = ::tidemark::block::v1::JobStatus;
  struct Record {
    Generation generation = 0;
    // As its starter asked; of other people's jobs, as far as known.
    Job job;
    // It was started through us, by this process or an earlier one.
    bool is_ours = false;
    // The request that it was taken to be of; 0: none, or it is settled.
    Intent intent = 0;
    // Its starter wants it gone when it ends, and we have made it wait.
    bool dismissed_by_us = false;
    // The last one told.
    JobStatus status = ::tidemark::block::v1::JOB_STATUS_UNSPECIFIED;
    // Somebody, or an error, wants it held.
    bool pause_wanted = false;
    // It is held now, and nobody asked.
    bool held_by_qemu = false;
    // What has been told of it.
    bool ready_told = false;
    bool pending_told = false;
    bool end_told = false;
    // Progress of the last seconds, by the clock.
    std::deque<std::pair<absl::Duration, int64_t>> samples;
  };
  // What follows from an event once no lock is held.
  using After = std::vector<std::function<void()>>;

  void Learn(backend::Event* event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStatus(backend::Event event, After* after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Record& Add(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Record& Begin(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MarkSpontaneous(::tidemark::block::v1::JobStatusChangeEvent* change, Record* record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellProgress(const Record& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellFound(backend::Event event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellFoundStatus(Record* record, JobStatus status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CatchUp(Record* record, const JobInfo& info, const BlockJobInfo* block)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellEnd(Record* record, const JobInfo& info, bool is_block_job)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsAnother(const JobInfo& info, const BlockJobInfo* block) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellGone(absl::string_view error, Record* record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveToOthers(Record* record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Lose(const std::string& id, absl::string_view error, After* after)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DismissWhenSaved(const std::string& id, After* after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& id, After* after) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Update(const JobInfo& info, const BlockJobInfo* block, Record* record)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t RateOf(Record* record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DeleteStored(const std::string& id);
  Job Asked(Job job) const;
  void EraseStoring(Intent intent, const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Job JobOfOthers(const std::string& id) const;
  static void SetError(const std::string& error, Job* job);

  static constexpr char kEndedUnseen[] =
      "The job ended while the connection to QEMU was down, and QEMU did not keep its result";

  // Constant after construction.
  const std::string instance_;
  backend::EventLog& log_;
  const backend::JobBook& jobs_;
  backend::StateStore* const store_;
  Executor& workers_;
  Clock& clock_;
  const Hooks hooks_;

  // Held while the store is written, so that what is deleted is not what has just been stored
  // anew. Before mutex_.
  Mutex store_mutex_;

  mutable Mutex mutex_;
  Intent next_intent_ ABSL_GUARDED_BY(mutex_) = 1;
  Generation next_generation_ ABSL_GUARDED_BY(mutex_) = 1;
  // Stored or about to be, and not intended yet.
  std::map<std::string, std::pair<Intent, Job>> storing_ ABSL_GUARDED_BY(mutex_);
  // By id, in the order sent.
  std::map<std::string, std::list<std::pair<Intent, Job>>> intended_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Record> records_ ABSL_GUARDED_BY(mutex_);
  // No job lives that has no record.
  bool knows_all_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_JOB_KEEPER_H_
