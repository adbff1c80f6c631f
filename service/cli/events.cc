#include "service/cli/events.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "service/cli/arguments.h"
#include "service/cli/error_text.h"
#include "service/cli/follow.h"
#include "service/cli/methods.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;
using qmp::Json;

// The service breaks a silence after 10 s; three in a row do not get lost.
constexpr absl::Duration kSilenceMax = absl::Seconds(35);

void AddList(const char* name, const std::vector<std::string>& words, Json* json) {
  for (const std::string& word : words) (*json)[name].push_back(word);
}

}  // namespace

absl::StatusOr<v1::WatchEventsRequest> EventsRequest(const Flags& flags) {
  if (flags.words.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("events: \"", flags.words[1], "\" is too much; filters are flags"));
  }
  Json json = Json::object();
  if (flags.after.has_value()) json["after"] = *flags.after;
  AddList("job-ids", flags.jobs, &json);
  AddList("node-names", flags.nodes, &json);
  for (const std::string& kind : flags.kinds) {
    // JOB_STATUS_CHANGE is QMP's spelling, job-status-change the one of all other enums.
    json["kinds"].push_back(absl::StrReplaceAll(absl::AsciiStrToLower(kind), {{"_", "-"}}));
  }
  v1::WatchEventsRequest request;
  RETURN_IF_ERROR(FillRequest(json, qmp::Strictness::kRequest, flags.instance, &request));
  return request;
}

std::string EventLine(const v1::Event& event) {
  const Json json = qmp::ToJson(event, {.with_local = true, .with_zeros = true});
  std::string line = absl::StrCat(
      event.sequence(), " ", json.contains("time") ? json["time"].get<std::string>() : "-", " ");
  if (!event.instance().empty()) absl::StrAppend(&line, "[", Printable(event.instance()), "] ");
  const std::string kind =
      json.contains("kind") ? json["kind"].get<std::string>() : std::string("unknown-event");
  absl::StrAppend(&line, absl::StrReplaceAll(absl::AsciiStrToUpper(Printable(kind)), {{"-", "_"}}));
  if (event.recovered()) absl::StrAppend(&line, " (found later)");
  if (event.unsaved()) absl::StrAppend(&line, " (not saved)");
  if (!json.contains(kind)) return line + "\n";
  Json told = Json::object();
  // What is false is what a reader expects.
  for (const auto& [name, value] : json[kind].items()) {
    if (value != false) told[name] = value;
  }
  if (!told.empty()) absl::StrAppend(&line, " ", CompactText(told));
  return line + "\n";
}

int RunEvents(const Session& session) {
  absl::StatusOr<v1::WatchEventsRequest> request = EventsRequest(session.flags);
  if (!request.ok()) {
    session.diagnostics << ErrorText(request.status());
    return kExitUsage;
  }
  uint64_t left = session.flags.count.value_or(UINT64_MAX);
  if (left == 0) return kExitDone;
  v1::WatchEventsResponse response;
  const grpc::Status status =
      RunFollow(session, {.method = FindMethod("watch-events"),
                          .request = [&]() -> const google::protobuf::Message& { return *request; },
                          .response = &response,
                          .on_response =
                              [&] {
                                if (!response.has_event()) {
                                  request->set_after(response.heartbeat().sequence());
                                  // After a break, not to mistake another log for ours.
                                  request->set_log_id(response.heartbeat().log_id());
                                  return true;
                                }
                                request->set_after(response.event().sequence());
                                if (session.flags.json) {
                                  session.output << JsonLine(qmp::ToJson(
                                      response.event(), {.with_local = true, .with_zeros = true}));
                                } else {
                                  session.output << EventLine(response.event());
                                }
                                session.output.flush();
                                return --left > 0 && session.output.good();
                              },
                          .silence_max = kSilenceMax});
  if (status.ok()) return kExitDone;
  session.diagnostics << ErrorText(status, session.client.address());
  return kExitFailed;
}

}  // namespace tidemark::cli
