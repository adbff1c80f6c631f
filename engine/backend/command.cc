#include "engine/backend/command.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/backend/backend.h"
#include "qmp/options.pb.h"

namespace tidemark::backend {
namespace {

namespace pb = ::google::protobuf;

// All services of the mirror that have commands.
constexpr const char* kServices[] = {
    "tidemark.block.v1.NodeService",    "tidemark.block.v1.BitmapService",
    "tidemark.block.v1.JobService",     "tidemark.block.v1.TransactionService",
    "tidemark.block.v1.ExportService",  "tidemark.block.v1.DeviceService",
    "tidemark.block.v1.MachineService", "tidemark.block.v1.ObjectService",
};

const pb::FieldDescriptor* LocalField(const pb::Descriptor& message, qmp::Local local) {
  for (int i = 0; i < message.field_count(); ++i) {
    if (message.field(i)->options().GetExtension(qmp::local) == local) return message.field(i);
  }
  return nullptr;
}

CommandKind KindOf(const pb::MethodDescriptor& method) {
  switch (method.options().GetExtension(qmp::kind)) {
    case qmp::KIND_QUERY:
      return CommandKind::kQuery;
    case qmp::KIND_JOB_VERB:
      return CommandKind::kJobVerb;
    default:
      return CommandKind::kGraph;
  }
}

}  // namespace

const CommandIndex& CommandIndex::Get() {
  static const CommandIndex* const index = new CommandIndex;
  return *index;
}

CommandIndex::CommandIndex() {
  for (const char* name : kServices) {
    const pb::ServiceDescriptor* const service =
        pb::DescriptorPool::generated_pool()->FindServiceByName(name);
    CHECK(service != nullptr);
    AddService(*service);
  }
}

void CommandIndex::AddService(const pb::ServiceDescriptor& service) {
  for (int i = 0; i < service.method_count(); ++i) {
    const pb::MethodDescriptor& method = *service.method(i);
    if (!method.options().HasExtension(qmp::command)) continue;
    auto command = std::make_unique<Command>();
    command->method = &method;
    command->qmp_name = method.options().GetExtension(qmp::command);
    command->rpc_name = absl::StrCat(service.full_name(), "/", method.name());
    command->kind = KindOf(method);
    command->deprecated = method.options().GetExtension(qmp::deprecated);
    command->request_instance = LocalField(*method.input_type(), qmp::LOCAL_INSTANCE);
    command->response_event_sequence = LocalField(*method.output_type(), qmp::LOCAL_EVENT_SEQUENCE);
    pb::MessageFactory* const factory = pb::MessageFactory::generated_factory();
    command->request = factory->GetPrototype(method.input_type());
    command->response = factory->GetPrototype(method.output_type());
    // One command per request type, or Invoke could not tell which is meant.
    CHECK(by_request_.emplace(method.input_type(), command.get()).second);
    CHECK(by_qmp_name_.emplace(command->qmp_name, command.get()).second);
    CHECK(by_rpc_name_.emplace(command->rpc_name, command.get()).second);
    commands_.push_back(std::move(command));
  }
}

const Command* CommandIndex::ByRequest(const pb::Descriptor* request) const {
  const auto found = by_request_.find(request);
  return found == by_request_.end() ? nullptr : found->second;
}

const Command* CommandIndex::ByQmpName(absl::string_view qmp_name) const {
  const auto found = by_qmp_name_.find(std::string(qmp_name));
  return found == by_qmp_name_.end() ? nullptr : found->second;
}

const Command* CommandIndex::ByRpcName(absl::string_view rpc_name) const {
  std::string name(absl::StripPrefix(rpc_name, "/"));
  if (!absl::StrContains(name, '/')) {
    const size_t dot = name.rfind('.');
    if (dot != std::string::npos) name[dot] = '/';
  }
  const auto found = by_rpc_name_.find(name);
  return found == by_rpc_name_.end() ? nullptr : found->second;
}

void InvokeMessage(Backend& backend, const pb::Message& request,
                   const pb::Descriptor* response_type,
                   std::function<void(absl::Status, pb::Message*)> done) {
  const Command* const command = CommandIndex::Get().ByRequest(request.GetDescriptor());
  CHECK(command != nullptr);
  CHECK(command->response->GetDescriptor() == response_type);
  // Both live until `done` has returned.
  std::shared_ptr<pb::Message> copy(request.New());
  copy->CopyFrom(request);
  std::shared_ptr<pb::Message> response(command->response->New());
  backend.Call(*command, *copy, response.get(),
               [copy, response, done = std::move(done)](absl::Status status) {
                 done(std::move(status), response.get());
               });
}

}  // namespace tidemark::backend
