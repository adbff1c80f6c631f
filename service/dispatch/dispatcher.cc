#include "service/dispatch/dispatcher.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"

namespace tidemark::dispatch {
namespace {

using backend::Backend;
using backend::Capabilities;
using backend::Command;
using google::protobuf::Message;

absl::Status CheckCapable(const Capabilities& capabilities, const Command& command,
                          const Message& request) {
  if (capabilities.commands.count(command.qmp_name) == 0) {
    return Error(Reason::kCommandUnsupported,
                 absl::StrCat("Command '", command.qmp_name, "' does not work on this engine"),
                 {{"command", command.qmp_name}});
  }
  return backend::CheckEngine(request, capabilities.engine);
}

bool NamesFiles(const Message& request) {
  const absl::Status found = backend::CheckPaths(
      request, [](absl::string_view, qmp::Path) { return absl::CancelledError(); });
  return !found.ok();
}

// To QEMU "nbd:host", "json:{...}" and "fat:/etc" are not the files that they look like, and it
// looks for relative names where we do not know. A recorded name may count from the folder of its
// image, but not lead out of it.
bool IsPlain(absl::string_view name, qmp::Path use) {
  if (absl::StartsWith(name, "/")) return true;
  if (use != qmp::PATH_RECORDED) return false;
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  return !absl::StrContains(parts[0], ':') &&
         std::find(parts.begin(), parts.end(), "..") == parts.end();
}

absl::Status CheckPlainNames(const Message& request) {
  return backend::CheckPaths(request, [](absl::string_view name, qmp::Path use) {
    if (IsPlain(name, use)) return absl::OkStatus();
    return Error(Reason::kPathForbidden,
                 absl::StrCat("Cannot let a virtual machine use '", name,
                              "': with --image_root, only absolute file names are allowed"),
                 {{"file", name}});
  });
}

}  // namespace

std::string InstanceOf(const Command& command, const Message& request) {
  return command.request_instance == nullptr
             ? ""
             : request.GetReflection()->GetString(request, command.request_instance);
}

void Dispatcher::Call(const Command& command, const Message& request, Message* response,
                      Done done) const {
  if (stopped_) {
    return Refuse(
        Error(Reason::kShuttingDown, "The service is stopping and takes no more commands"), done);
  }
  if (absl::Status valid = backend::Validate(request); !valid.ok()) return Refuse(valid, done);
  const std::string instance = InstanceOf(command, request);
  std::shared_ptr<Backend> backend = router_.Find(instance);
  if (backend == nullptr) return Refuse(UnknownInstance(instance), done);
  // A virtual machine that was never connected refuses by itself, and says why.
  if (const auto capabilities = backend->capabilities(); capabilities != nullptr) {
    absl::Status capable = CheckCapable(*capabilities, command, request);
    if (!capable.ok()) return Refuse(std::move(capable), done);
  }
  // The native engine looks at file names by itself, when it waits for their disk anyway.
  const auto known = backend->capabilities();
  const bool is_native = known != nullptr && known->engine == backend::EngineKind::kNative;
  if (is_native || paths_.allows_everything() || !NamesFiles(request)) {
    return Hand(std::move(backend), command, request, response, std::move(done));
  }
  workers_.Post([this, backend = std::move(backend), &command, &request, response,
                 done = std::move(done)]() mutable {
    absl::Status allowed = CheckPlainNames(request);
    if (allowed.ok()) allowed = backend::CheckPaths(request, paths_);
    if (!allowed.ok()) return Refuse(std::move(allowed), done);
    Hand(std::move(backend), command, request, response, std::move(done));
  });
}

void Dispatcher::Hand(std::shared_ptr<Backend> backend, const Command& command,
                      const Message& request, Message* response, Done done) const {
  const uint64_t begun = log_.position();
  Backend& engine = *backend;
  engine.Call(command, request, response,
              [&log = log_, backend = std::move(backend), &command, response, begun,
               done = std::move(done)](absl::Status status) {
                const auto* const field = command.response_event_sequence;
                // An engine that knows better has set it.
                if (status.ok() && field != nullptr &&
                    response->GetReflection()->GetUInt64(*response, field) == 0) {
                  response->GetReflection()->SetUInt64(response, field, begun);
                }
                const uint64_t answered = log.position();
                log.RunWhenShown(answered, [status = std::move(status), answered, done] {
                  done(status, answered);
                });
              });
}

}  // namespace tidemark::dispatch
