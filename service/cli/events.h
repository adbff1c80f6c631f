// `tidemark events`: what happens, as it happens.
#ifndef SERVICE_CLI_EVENTS_H_
#define SERVICE_CLI_EVENTS_H_

#include <string>

#include "absl/status/statusor.h"
#include "service/cli/session.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::cli {

// Prints events, until killed or --count of them are printed. Returns the exit status.
int RunEvents(const Session& session);

// What the flags ask for. Kinds are told by any spelling of their names.
absl::StatusOr<::tidemark::block::v1::WatchEventsRequest> EventsRequest(const Flags& flags);

// "41 2026-03-01T12:00:00.25Z JOB_STATUS_CHANGE id=job0 status=running".
std::string EventLine(const ::tidemark::block::v1::Event& event);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_EVENTS_H_
