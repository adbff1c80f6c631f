#include "engine/job/job.h"

#include "engine/base/error.h"

namespace tidemark::job {

absl::Status Job::Change(CopyMode) {
  return Error(Reason::kFeatureUnsupported, "jobs of this type cannot be changed while they run");
}

}  // namespace tidemark::job
