#include "service/orphan_jobs.h"

#include <string>
#include <utility>
#include <vector>

namespace tidemark {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr char kError[] = "The service was killed while the job ran";
constexpr char kGone[] = "The instance was gone when the service came back";

// Found first and ended afterwards: pages move when jobs change.
std::vector<v1::Job> LivingJobs(const backend::JobBook& jobs) {
  v1::ListJobsRequest request;
  request.set_ended(false);
  std::vector<v1::Job> living;
  do {
    auto page = jobs.List(request);
    if (!page.ok()) break;
    living.insert(living.end(), page->jobs().begin(), page->jobs().end());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return living;
}

}  // namespace

void EndOrphanJobs(backend::EventLog& log, const backend::JobBook& jobs,
                   const std::function<bool(const std::string& instance)>& is_cared_for) {
  for (const v1::Job& job : LivingJobs(jobs)) {
    if (is_cared_for(job.instance())) continue;
    backend::Event last;
    v1::JobProgressEvent& progress = *last.mutable_job_progress();
    progress.set_id(job.id());
    progress.set_type(job.type());
    progress.set_status(v1::JOB_STATUS_NULL);
    progress.set_progress_bytes(job.progress_bytes());
    progress.set_total_bytes(job.total_bytes());
    progress.set_speed_bytes_per_second(job.speed_bytes_per_second());
    progress.set_io_status(job.io_status());
    *progress.mutable_node_names() = job.node_names();
    progress.set_auto_finalize(job.auto_finalize());
    progress.set_auto_dismiss(job.auto_dismiss());
    progress.set_error(job.instance().empty() ? kError : kGone);
    last.set_recovered(true);
    log.Append(job.instance(), std::move(last));
    backend::Event end;
    v1::JobStatusChangeEvent& change = *end.mutable_job_status_change();
    change.set_id(job.id());
    change.set_status(v1::JOB_STATUS_NULL);
    change.set_type(job.type());
    *change.mutable_node_names() = job.node_names();
    end.set_recovered(true);
    log.Append(job.instance(), std::move(end));
  }
}

}  // namespace tidemark
