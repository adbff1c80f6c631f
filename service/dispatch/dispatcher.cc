#include "service/dispatch/dispatcher.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/backend/validate.h"
#include "engine/base/clock.h"
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

// Looks up the file names of one request, one after the other, and says whether all are allowed.
// Nothing of the request is touched, which may be gone by then.
class NameCheck : public std::enable_shared_from_this<NameCheck> {
 public:
  NameCheck(std::shared_ptr<const PathPolicy> paths, LookupPool& lookups,
            std::vector<backend::FileName> names, std::function<void(absl::Status)> done)
      : paths_(std::move(paths)),
        lookups_(lookups),
        names_(std::move(names)),
        done_(std::move(done)),
        until_(SystemClock().Elapsed() + lookups.look_max()) {}

  // What no disk need be asked about comes first.
  void Start() {
    for (const backend::FileName& file : names_) {
      absl::Status status = PathPolicy::CheckForm(file.name);
      if (!status.ok()) return done_(In(file, status));
    }
    Next();
  }

 private:
  static absl::Status In(const backend::FileName& file, const absl::Status& status) {
    return Annotate(status, absl::StrCat("Field '", file.field, "'"));
  }

  void Next() {
    if (next_ == names_.size()) return done_(absl::OkStatus());
    const backend::FileName& file = names_[next_++];
    lookups_.LookAtFile(
        file.name, [paths = paths_, name = file.name] { return paths->CheckPath(name); },
        [self = shared_from_this(), &file](absl::Status status) {
          status.ok() ? self->Next() : self->done_(In(file, status));
        },
        until_ - SystemClock().Elapsed());
  }

  const std::shared_ptr<const PathPolicy> paths_;
  LookupPool& lookups_;
  const std::vector<backend::FileName> names_;
  const std::function<void(absl::Status)> done_;
  // For all of them.
  const absl::Duration until_;
  size_t next_ = 0;
};

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
  if (paths_->allows_everything()) {
    return Hand(std::move(backend), command, request, response, std::move(done));
  }
  const auto known = backend->capabilities();
  if (known == nullptr || known->engine != backend::EngineKind::kNative) {
    absl::Status allowed = CheckPlainNames(request);
    if (allowed.ok() && !probe_formats_) allowed = backend::CheckUnprobed(request);
    if (!allowed.ok()) return Refuse(std::move(allowed), done);
  }
  std::vector<backend::FileName> names = backend::FileNamesOf(request);
  if (names.empty()) {
    return Hand(std::move(backend), command, request, response, std::move(done));
  }
  std::make_shared<NameCheck>(paths_, lookups_, std::move(names),
                              [this, backend = std::move(backend), &command, &request, response,
                               done = std::move(done)](absl::Status allowed) {
                                if (!allowed.ok()) return Refuse(std::move(allowed), done);
                                Hand(backend, command, request, response, done);
                              })
      ->Start();
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
