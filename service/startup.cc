#include "service/startup.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "service/rpc/limits.h"

namespace tidemark {
namespace {

using nlohmann::json;

absl::Status Invalid(absl::string_view what) { return Error(Reason::kInvalidField, what); }

// "Startup request 3 (BlockdevAdd)": what every error begins with.
std::string Noun(size_t index, absl::string_view method) {
  return absl::StrCat("Startup request ", index, " (", method, ")");
}

// By full name, by the method's own name, or by QMP's name.
const backend::Command* FindCommand(absl::string_view method) {
  const backend::CommandIndex& index = backend::CommandIndex::Get();
  if (const backend::Command* command = index.ByRpcName(method)) return command;
  if (const backend::Command* command = index.ByQmpName(method)) return command;
  for (const auto& command : index.commands()) {
    if (command->method->name() == method) return command.get();
  }
  return nullptr;
}

absl::StatusOr<StartupRequest> ParseRequest(size_t index, const json& entry) {
  if (!entry.is_object() || !entry.contains("method") || !entry["method"].is_string()) {
    return Invalid(absl::StrCat("Startup request ", index,
                                R"( is not an object {"method": "...", "body": {...}})"));
  }
  const std::string method = entry["method"].get<std::string>();
  for (const auto& [key, value] : entry.items()) {
    if (key != "method" && key != "body") {
      return Invalid(absl::StrCat(Noun(index, method), " has an unknown member '", key, "'"));
    }
  }
  StartupRequest request;
  request.command = FindCommand(method);
  if (request.command == nullptr) {
    return Invalid(absl::StrCat(Noun(index, method), ": no such command"));
  }
  request.body.reset(request.command->request->New());
  if (!entry.contains("body")) return request;
  const auto parsed = google::protobuf::util::JsonStringToMessage(
      entry["body"].dump(), request.body.get(), google::protobuf::util::JsonParseOptions());
  if (!parsed.ok()) {
    return Invalid(absl::StrCat(Noun(index, method), ": the body is not a ",
                                request.command->method->input_type()->name(), ": ",
                                std::string(parsed.message())));
  }
  return request;
}

// One call, and all that it needs until it is answered.
struct Sent {
  std::shared_ptr<google::protobuf::Message> request;
  std::unique_ptr<google::protobuf::Message> response;
  Mutex mutex;
  absl::Status status ABSL_GUARDED_BY(mutex) = absl::CancelledError("told to stop");
  // The answer is there, or the order to stop.
  Notification over;
};

absl::Status Send(const StartupRequest& request, const dispatch::Dispatcher& dispatcher,
                  StopRequest& stop) {
  const auto sent = std::make_shared<Sent>();
  sent->request = request.body;
  sent->response.reset(request.command->response->New());
  const uint64_t wake = stop.Then([sent] { sent->over.Notify(); });
  dispatcher.Call(*request.command, *sent->request, sent->response.get(),
                  [sent](absl::Status status, uint64_t) {
                    MutexLock lock(&sent->mutex);
                    sent->status = std::move(status);
                    sent->over.Notify();
                  });
  sent->over.Wait();
  stop.Forget(wake);
  MutexLock lock(&sent->mutex);
  return sent->status;
}

}  // namespace

absl::StatusOr<std::vector<StartupRequest>> ParseStartup(absl::string_view text) {
  const json list = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return Invalid("The startup file is not a JSON list");
  std::vector<StartupRequest> requests;
  for (const json& entry : list) {
    ASSIGN_OR_RETURN(StartupRequest request, ParseRequest(requests.size(), entry));
    requests.push_back(std::move(request));
  }
  return requests;
}

absl::StatusOr<std::vector<StartupRequest>> ReadStartupFile(const std::string& path) {
  const auto text = ReadSmallFile(path, rpc::kStartupFileBytesMax);
  if (!text.ok()) return Annotate(text.status(), "The startup file");
  auto requests = ParseStartup(*text);
  if (!requests.ok()) return Annotate(requests.status(), path);
  return requests;
}

absl::Status RunStartup(const std::vector<StartupRequest>& requests,
                        const dispatch::Dispatcher& dispatcher, backend::EventLog& log,
                        StopRequest& stop, absl::Duration patience) {
  const absl::Duration end = SystemClock().Elapsed() + patience;
  for (size_t i = 0; i < requests.size(); ++i) {
    absl::Status status;
    do {
      const uint64_t position = log.shown();
      status = stop.is_made() ? absl::CancelledError("told to stop")
                              : Send(requests[i], dispatcher, stop);
      if (!HasReason(status, Reason::kInstanceUnreachable)) break;
      // What makes it reachable is told by an event.
      const auto woken = std::make_shared<Notification>();
      const auto notify = [woken] { woken->Notify(); };
      const uint64_t wake = log.WakeAfter(position, notify);
      const uint64_t stopped = stop.Then(notify);
      woken->WaitFor(end - SystemClock().Elapsed());
      stop.Forget(stopped);
      log.CancelWake(wake);
    } while (SystemClock().Elapsed() < end);
    RETURN_IF_ERROR(Annotate(status, Noun(i, requests[i].command->method->name())));
  }
  return absl::OkStatus();
}

}  // namespace tidemark
