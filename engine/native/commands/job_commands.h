// The commands that steer jobs and ask for them: job-*, block-job-*, query-jobs, query-block-jobs.
#ifndef ENGINE_NATIVE_COMMANDS_JOB_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_JOB_COMMANDS_H_

#include "engine/job/scheduler.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// The handlers run on the engine thread; `scheduler` must outlive them.
void AddJobCommands(job::Scheduler* scheduler, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_JOB_COMMANDS_H_
