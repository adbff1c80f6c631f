// What every job-starting command can say about the job itself. Plain data; any thread.
#ifndef ENGINE_JOB_JOB_OPTIONS_H_
#define ENGINE_JOB_JOB_OPTIONS_H_

#include <cstdint>
#include <string>

#include "engine/job/error_policy.h"
#include "engine/job/state.h"

namespace tidemark::job {

struct JobOptions {
  std::string id;
  JobType type = JobType::kBackup;
  // Bytes per second, as the caller gave it: negative is refused, 0 is unlimited.
  int64_t speed = 0;
  bool auto_finalize = true;
  bool auto_dismiss = true;
  // For jobs with one on-error, both are that.
  ErrorPolicy on_source_error = ErrorPolicy::kReport;
  ErrorPolicy on_target_error = ErrorPolicy::kReport;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_OPTIONS_H_
