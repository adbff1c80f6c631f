// `tidemark watch` and `tidemark wait`: one job, followed to its end.
#ifndef SERVICE_CLI_WATCH_H_
#define SERVICE_CLI_WATCH_H_

#include "service/cli/session.h"

namespace tidemark::cli {

// Shows the progress of a job until it ends: one line that changes on a terminal, else a line for
// each change of state and each percent. Exit status 0 only if the job succeeded.
int RunWatch(const Session& session);

// Waits until a job ends or is in one of the states of --for, at most --timeout. Exit status 0 only
// if it succeeded or is in one of them.
int RunWait(const Session& session);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_WATCH_H_
