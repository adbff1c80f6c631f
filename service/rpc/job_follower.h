// Follows one job through the event log, from how it is now to its end, without missing a state.
// Owned by one stream; no call blocks.
#ifndef SERVICE_RPC_JOB_FOLLOWER_H_
#define SERVICE_RPC_JOB_FOLLOWER_H_

#include <deque>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"

namespace tidemark::rpc {

class JobFollower {
 public:
  // NOT_FOUND (kJobNotFound): no such job runs or is remembered. Both must outlive the follower.
  static absl::StatusOr<JobFollower> Begin(backend::EventLog& log, backend::JobBook& jobs,
                                           absl::string_view instance, absl::string_view id);

  enum class Change {
    kNone,     // Everything the log holds is taken in.
    kFigures,  // Progress, errors, ...: the same, and something of the job but its state changed.
    kState,    // The state changed; there may be more.
    kPause,    // Many events looked at, none a change of state; there may be more.
  };
  // Takes in events up to the job's next change of state. If the log has dropped what comes next,
  // the job is taken from the book as it is now.
  absl::StatusOr<Change> Advance();

  const ::tidemark::block::v1::Job& job() const { return entry_.view.job(); }
  bool ended() const { return entry_.view.ended(); }
  // Everything up to here is taken in.
  uint64_t cursor() const { return entry_.position; }

 private:
  JobFollower(backend::EventLog& log, backend::JobBook& jobs, backend::JobBook::Entry entry)
      : log_(&log), jobs_(&jobs), entry_(std::move(entry)) {}

  backend::EventLog* log_;
  backend::JobBook* jobs_;
  backend::JobBook::Entry entry_;
  std::deque<backend::EventPtr> read_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_JOB_FOLLOWER_H_
