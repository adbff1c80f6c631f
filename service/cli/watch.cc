#include "service/cli/watch.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "service/cli/arguments.h"
#include "service/cli/error_text.h"
#include "service/cli/follow.h"
#include "service/cli/methods.h"
#include "service/cli/output.h"
#include "service/cli/progress.h"
#include "tidemark/block/v1/job_watch.pb.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;
using qmp::Json;

// Shows one job after another state of it.
class Display {
 public:
  explicit Display(const Session& session) : session_(session) {}

  void Show(const v1::Job& job) {
    rate_.Add(job);
    const std::string line = ProgressLine(job, rate_.BytesPerSecond());
    if (session_.flags.json) {
      session_.output << JsonLine(qmp::ToJson(job, {.with_local = true, .with_zeros = true}));
    } else if (session_.terminal_columns > 0) {
      // Back to the start of the line, over the old one, and away with what is left of it. A line
      // that went on in the next row could not be gone back over.
      const auto columns_max = static_cast<size_t>(session_.terminal_columns - 1);
      session_.output << "\r" << line.substr(0, columns_max) << "\x1b[K";
    } else if (job.status() != status_ || Permille(job) / 10 != percent_) {
      session_.output << line << "\n";
    }
    status_ = job.status();
    percent_ = Permille(job) / 10;
    session_.output.flush();
  }

  void ShowOutcome(const v1::Job& job) {
    if (session_.flags.json) return;
    if (session_.terminal_columns > 0) session_.output << "\n";
    session_.output << OutcomeLine(job) << "\n";
    session_.output.flush();
  }

 private:
  const Session& session_;
  RateMeter rate_;
  v1::JobStatus status_ = v1::JOB_STATUS_UNSPECIFIED;
  int percent_ = -1;
};

// A request about the job that the second word names, with `json` beside; false, said, if wrong.
bool FillJobRequest(const Session& session, Json json, google::protobuf::Message* request) {
  const Flags& flags = session.flags;
  if (flags.words.size() != 2) {
    session.diagnostics << "tidemark: " << flags.words[0] << " needs the id of one job\n";
    return false;
  }
  json["id"] = flags.words[1];
  const absl::Status status = FillRequest(json, qmp::Strictness::kTyped, flags.instance, request);
  if (!status.ok()) session.diagnostics << ErrorText(status);
  return status.ok();
}

int Failed(const Session& session, const grpc::Status& status) {
  session.diagnostics << ErrorText(status, session.client.address());
  return kExitFailed;
}

}  // namespace

int RunWatch(const Session& session) {
  v1::WatchJobRequest request;
  Json json = Json::object();
  if (session.terminal_columns == 0) json["progress-interval"] = "1s";
  if (!FillJobRequest(session, std::move(json), &request)) return kExitUsage;
  Display display(session);
  v1::WatchJobResponse response;
  const grpc::Status status =
      RunFollow(session, {.method = FindMethod("watch-job"),
                          .request = [&]() -> const google::protobuf::Message& { return request; },
                          .response = &response,
                          .on_response =
                              [&] {
                                display.Show(response.job());
                                return response.job().outcome() == v1::JOB_OUTCOME_UNSPECIFIED;
                              }});
  if (!status.ok()) return Failed(session, status);
  if (response.job().outcome() == v1::JOB_OUTCOME_UNSPECIFIED) {
    session.diagnostics << "tidemark: the daemon stopped telling before the job's end\n";
    return kExitFailed;
  }
  display.ShowOutcome(response.job());
  return response.job().outcome() == v1::JOB_OUTCOME_SUCCEEDED ? kExitDone : kExitFailed;
}

int RunWait(const Session& session) {
  const Flags& flags = session.flags;
  Json json = Json::object();
  for (const std::string& status : flags.statuses) {
    json["statuses"].push_back(absl::AsciiStrToLower(status));
  }
  v1::WaitJobRequest request;
  if (!FillJobRequest(session, std::move(json), &request)) return kExitUsage;
  const absl::Time end = absl::Now() + flags.timeout;
  v1::WaitJobResponse response;
  do {
    // The service waits no longer than a day at a time; the connection may take a moment more.
    const absl::Duration left =
        std::clamp(end - absl::Now(), absl::ZeroDuration(), absl::Hours(24));
    request.mutable_timeout()->set_seconds(absl::ToInt64Seconds(left));
    request.mutable_timeout()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(left % absl::Seconds(1))));
    const grpc::Status status =
        session.client.Call(*FindMethod("wait-job"), request, &response, left + absl::Seconds(10));
    if (!status.ok()) return Failed(session, status);
  } while (!response.done() && absl::Now() < end);
  const v1::Job& job = response.job();
  if (flags.json) {
    session.output << JsonLine(qmp::ToJson(job, {.with_local = true, .with_zeros = true}));
  } else if (job.outcome() == v1::JOB_OUTCOME_UNSPECIFIED) {
    session.output << ProgressLine(job, static_cast<uint64_t>(
                                            std::max<int64_t>(0, job.rate_bytes_per_second())))
                   << "\n";
  } else {
    session.output << OutcomeLine(job) << "\n";
  }
  session.output.flush();
  if (!response.done()) {
    session.diagnostics << "tidemark: " << Printable(job.id()) << " is still "
                        << StatusName(job.status()) << " after "
                        << absl::FormatDuration(flags.timeout) << "\n";
    return kExitFailed;
  }
  // Done without an end: a state that was asked for, even if it has passed since.
  if (job.outcome() == v1::JOB_OUTCOME_UNSPECIFIED) return kExitDone;
  const bool is_there = std::find(request.statuses().begin(), request.statuses().end(),
                                  job.status()) != request.statuses().end();
  return is_there || job.outcome() == v1::JOB_OUTCOME_SUCCEEDED ? kExitDone : kExitFailed;
}

}  // namespace tidemark::cli
