// Jobs of the native engine that a killed process left without an end.
#ifndef SERVICE_ORPHAN_JOBS_H_
#define SERVICE_ORPHAN_JOBS_H_

#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"

namespace tidemark {

// Appends to `log` that every job of the native engine which the book believes to live has failed.
// Called once, after the log was filled from its tail and before the engine runs.
void EndOrphanJobs(backend::EventLog& log, const backend::JobBook& jobs);

}  // namespace tidemark

#endif  // SERVICE_ORPHAN_JOBS_H_
