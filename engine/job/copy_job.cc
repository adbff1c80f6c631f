#include "engine/job/copy_job.h"

namespace tidemark::job {

absl::Status CopyJob::Prepare() {
  return hooks_.prepare != nullptr ? hooks_.prepare() : absl::OkStatus();
}

void CopyJob::Commit() {
  if (hooks_.commit != nullptr) hooks_.commit(copy_->not_copied());
}

void CopyJob::Abort() {
  copy_->Finish();
  if (hooks_.abort != nullptr) hooks_.abort(copy_->not_copied());
}

void CopyJob::Clean() {
  if (hooks_.clean != nullptr) hooks_.clean();
}

}  // namespace tidemark::job
