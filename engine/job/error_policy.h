// What becomes of a job whose source or target fails: on-source-error, on-target-error, on-error.
// Plain data; any thread.
#ifndef ENGINE_JOB_ERROR_POLICY_H_
#define ENGINE_JOB_ERROR_POLICY_H_

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/base/error.h"
#include "engine/storage/errno_status.h"

namespace tidemark::job {

enum class ErrorPolicy {
  kReport,  // The job fails.
  kIgnore,  // The failed stretch is tried again until it works.
  kStop,    // The job pauses; resuming tries again.
  kEnospc,  // Stop if the target is full, else report.
  kAuto,    // As kEnospc.
};

// What was done about one error, as the event says it.
enum class ErrorAction { kReport, kIgnore, kStop };

// QEMU's io-status of a job.
enum class IoStatus { kOk, kFailed, kNoSpace };

// True if `status` says that the disk is full, not that some other limit was reached.
inline bool IsNoSpace(const absl::Status& status) {
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  return details.has_value() ? details->reason == Reason::kNoSpace
                             : absl::IsResourceExhausted(status);
}

inline ErrorAction ActionFor(ErrorPolicy policy, const absl::Status& status) {
  // Trying again cannot help, nor can anybody who is asked.
  if (storage::IsLoss(status)) return ErrorAction::kReport;
  switch (policy) {
    case ErrorPolicy::kReport:
      return ErrorAction::kReport;
    case ErrorPolicy::kIgnore:
      return ErrorAction::kIgnore;
    case ErrorPolicy::kStop:
      return ErrorAction::kStop;
    case ErrorPolicy::kEnospc:
    case ErrorPolicy::kAuto:
      break;
  }
  return IsNoSpace(status) ? ErrorAction::kStop : ErrorAction::kReport;
}

}  // namespace tidemark::job

#endif  // ENGINE_JOB_ERROR_POLICY_H_
