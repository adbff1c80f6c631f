// Jobs that an earlier process left without an end, and that nobody will end any more.
#ifndef SERVICE_ORPHAN_JOBS_H_
#define SERVICE_ORPHAN_JOBS_H_

#include <functional>
#include <string>

#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"

namespace tidemark {

// Appends to `log` that every job which the book believes to live has failed, unless `is_cared_for`
// says that its instance will tell. Called after the log was filled from its tail: for the native
// engine before it runs, and once it is known which virtual machines there are.
void EndOrphanJobs(backend::EventLog& log, const backend::JobBook& jobs,
                   const std::function<bool(const std::string& instance)>& is_cared_for);

}  // namespace tidemark

#endif  // SERVICE_ORPHAN_JOBS_H_
