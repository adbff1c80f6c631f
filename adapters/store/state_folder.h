// The folder that outlives the process: the newest events, results of jobs, the registered
// instances, their unfinished jobs and their exports, in one SQLite database. Any thread that may
// block; calls wait for each other.
//
// Promises
//   A killed process loses nothing that a call has returned for, so of events what it appended in
//   its last moment; a crashed machine perhaps the last seconds.
//   Sequences are never used twice, and events that are missing are never passed over in silence: a
//   watcher that comes back is shown all that was saved since, or told that some are gone. So while
//   the disk is full a mark is missing, without which the next process takes it that some are.
//   How jobs ended stays known, whatever becomes of the events that told it: results have rows and
//   a bound of their own.
//   A database that is damaged or lacks a table does not keep the service from starting: it is
//   moved aside, which the warning says, and what can still be read of instances, jobs and results
//   is taken over. Before the tables of an older Tidemark are brought up, a copy is made beside it.
#ifndef ADAPTERS_STORE_STATE_FOLDER_H_
#define ADAPTERS_STORE_STATE_FOLDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/store/database.h"
#include "adapters/store/event_rows.h"
#include "adapters/store/job_rows.h"
#include "engine/backend/event_log.h"
#include "engine/backend/state_store.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"

namespace tidemark::store {

class StateFolder final : public backend::EventTail, public backend::StateStore {
 public:
  // What an operator should read. Any thread that calls a method.
  using Warn = std::function<void(const std::string&)>;

  // Opens the folder, which is made if it is missing, for this process alone. FAILED_PRECONDITION
  // if another process has it, or a newer Tidemark wrote it.
  static absl::StatusOr<std::unique_ptr<StateFolder>> Open(const std::string& folder, Clock& clock,
                                                           Warn warn, EventBounds bounds = {});
  ~StateFolder() override;

  // EventTail. Load comes first.
  absl::StatusOr<Saved> Load() override;
  absl::Status Save(const std::vector<backend::EventPtr>& events) override;
  void AddGap() override;
  // Behind every sequence that was ever told: EventLogOptions::start_after. After Load.
  uint64_t start_after() const;
  // What the saved events, also those that are dropped since, told of jobs. Once, after Load.
  std::vector<backend::JobView> TakeJobHistory();
  // EventLogOptions::id: as old as the database.
  std::string log_id() const;

  // StateStore.
  absl::StatusOr<std::vector<::tidemark::block::v1::CreateInstanceRequest>> LoadInstances()
      override;
  absl::Status SaveInstance(const ::tidemark::block::v1::CreateInstanceRequest& instance) override;
  absl::StatusOr<std::vector<std::string>> LoadOtherInstanceIds() override;
  absl::Status DeleteInstance(absl::string_view id) override;
  absl::StatusOr<std::vector<::tidemark::block::v1::Job>> LoadJobs(
      absl::string_view instance) override;
  absl::Status SaveJob(const ::tidemark::block::v1::Job& job) override;
  absl::Status DeleteJob(absl::string_view instance, absl::string_view id) override;
  absl::StatusOr<std::vector<::tidemark::block::v1::BlockExportInfo>> LoadExports(
      absl::string_view instance) override;
  absl::Status SaveExport(absl::string_view instance,
                          const ::tidemark::block::v1::BlockExportInfo& info) override;
  absl::Status DeleteExport(absl::string_view instance, absl::string_view id) override;

  static constexpr char kDatabaseName[] = "tidemark.db";

 private:
  StateFolder(std::string folder, int lock, Clock& clock, Warn warn, EventBounds bounds)
      : folder_(std::move(folder)),
        lock_(lock),
        clock_(clock),
        warn_(std::move(warn)),
        bounds_(bounds) {}

  std::string path() const { return folder_ + "/" + kDatabaseName; }
  // There is such a file for as long as the saved events are all there are. Taking it away needs no
  // space, so it works where saving does not.
  std::string mark_path() const { return folder_ + "/events-are-whole"; }
  bool SetMark();

  absl::Status OpenDatabase() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The warning that goes with it.
  absl::StatusOr<std::string> ReplaceDamaged(const absl::Status& damage)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RaiseFloor(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status SaveInOne(const std::vector<backend::EventPtr>& events)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StartAnew() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The messages that one table holds of an instance, by id.
  template <typename Body>
  absl::StatusOr<std::vector<Body>> LoadOf(absl::string_view instance, absl::string_view table);
  absl::Status SaveOf(absl::string_view instance, absl::string_view table, absl::string_view id,
                      const std::string& body);
  absl::Status DeleteOf(absl::string_view instance, absl::string_view table, absl::string_view id);
  absl::Status Execute(absl::string_view what, absl::string_view statement,
                       absl::FunctionRef<void(Statement&)> bind);

  // Constant after Open.
  const std::string folder_;
  const int lock_;
  Clock& clock_;
  const Warn warn_;
  const EventBounds bounds_;

  // Held during I/O: it is what makes the calls wait for each other.
  mutable Mutex mutex_;
  std::unique_ptr<Database> database_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<EventRows> events_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<JobRows> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<backend::JobView> history_ ABSL_GUARDED_BY(mutex_);
  std::string log_id_ ABSL_GUARDED_BY(mutex_);
  // Events are missing behind those saved: the next save says so.
  bool has_gap_ ABSL_GUARDED_BY(mutex_) = false;
  // A save failed and was not repeated with success yet: the mark is missing.
  bool is_unmarked_ ABSL_GUARDED_BY(mutex_) = false;
  // There was a mark, but no database.
  bool was_lost_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t start_after_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_STATE_FOLDER_H_
