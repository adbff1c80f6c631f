#include "service/cli/follow.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "service/cli/error_text.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

constexpr absl::Duration kPauseMin = absl::Milliseconds(250);
constexpr absl::Duration kPauseMax = absl::Seconds(10);

}  // namespace

grpc::Status RunFollow(const Session& session, const Follow& follow) {
  bool was_connected = false;
  absl::Duration pause = kPauseMin;
  while (true) {
    bool is_connected = false;
    const grpc::Status status = session.client.Stream(
        *follow.method, follow.request(), follow.response,
        [&] {
          if (was_connected && !is_connected) session.diagnostics << "tidemark: connected again\n";
          was_connected = is_connected = true;
          pause = kPauseMin;
          return follow.on_response();
        },
        follow.silence_max);
    if (!was_connected || !IsBrokenConnection(status)) return status;
    // Said once for each break, however many attempts follow.
    if (is_connected) {
      session.diagnostics << "tidemark: the connection to " << session.client.address()
                          << " is broken (" << Printable(status.error_message())
                          << "); trying again\n";
    }
    session.diagnostics.flush();
    absl::SleepFor(pause);
    pause = std::min(pause * 2, kPauseMax);
  }
}

}  // namespace tidemark::cli
