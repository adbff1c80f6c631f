#include "service/orphan_jobs.h"

#include <string>
#include <utility>
#include <vector>

#include "engine/backend/job_events.h"

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
    v1::Job ended = job;
    ended.set_error(job.instance().empty() ? kError : kGone);
    ended.set_error_reason(v1::ERROR_REASON_CONNECTION_LOST);
    for (backend::Event event : {backend::ProgressOf(ended, v1::JOB_STATUS_NULL),
                                 backend::StatusChangeOf(ended, v1::JOB_STATUS_NULL)}) {
      event.set_recovered(true);
      log.Append(job.instance(), std::move(event));
    }
  }
}

}  // namespace tidemark
