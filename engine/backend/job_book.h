// All jobs of all engines: those that run, and a bounded history of those that ended, kept current
// by the event log alone. Answers cost no engine anything. Any thread; no call blocks.
//
// Every answer includes all that the log shows at that moment, so whoever has seen a command's
// reply finds the job it started. What is not saved yet, although there is a tail for it, is marked
// `unsaved`.
#ifndef ENGINE_BACKEND_JOB_BOOK_H_
#define ENGINE_BACKEND_JOB_BOOK_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_view.h"
#include "engine/backend/limits.h"
#include "tidemark/block/v1/job_watch.pb.h"

namespace tidemark::backend {

// What was known when an earlier process ended: by all events up to `position`.
struct JobHistory {
  std::vector<JobView> jobs;
  uint64_t position = 0;
};

class JobBook {
 public:
  // A job, and the log's position up to which it is told: read on from there.
  struct Entry {
    JobView view;
    uint64_t position;
  };

  // `log` must outlive the book. Of ended jobs at most `ended_jobs_max` are remembered: what is too
  // much is taken from the instance that has most.
  explicit JobBook(EventLog& log, JobHistory history = {}, size_t ended_jobs_max = kEndedJobsMax);
  ~JobBook();
  JobBook(const JobBook&) = delete;
  JobBook& operator=(const JobBook&) = delete;

  // The newest job of this id. NOT_FOUND (kJobNotFound): none runs or is remembered.
  absl::StatusOr<Entry> Find(absl::string_view instance, absl::string_view id) const;

  // The newest job of each id, unless it has gone (NULL). For an engine's own books: also what
  // readers are not shown yet.
  std::vector<::tidemark::block::v1::Job> Remaining(absl::string_view instance) const;

  // Whether the job that had this id when event `sequence` happened works on a node that is wanted,
  // as far as known. `is_wanted` must not call the book.
  bool WorksOn(absl::string_view instance, absl::string_view id, uint64_t sequence,
               absl::FunctionRef<bool(const std::string& node_name)> is_wanted) const;

  // One page, newest jobs first, as ListJobsRequest says. INVALID_ARGUMENT: a token not of this
  // request.
  absl::StatusOr<::tidemark::block::v1::ListJobsResponse> List(
      const ::tidemark::block::v1::ListJobsRequest& request) const;

 private:
  class Core;
  const std::shared_ptr<Core> core_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_JOB_BOOK_H_
