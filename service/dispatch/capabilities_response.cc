#include "service/dispatch/capabilities_response.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/command.h"
#include "engine/backend/limits.h"
#include "engine/backend/message_walk.h"
#include "engine/backend/proto_time.h"
#include "qmp/options.pb.h"

namespace tidemark::dispatch {
namespace {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Paths of the fields below `type` that belong to an engine other than `here`. Each message type is
// entered once on a path, so a node's children are not told again.
void FindUnsupported(const Descriptor& type, qmp::Engine here, const std::string& path,
                     std::vector<const Descriptor*>& entered, v1::CommandCapability* command) {
  if (std::find(entered.begin(), entered.end(), &type) != entered.end()) return;
  entered.push_back(&type);
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string name = backend::Join(path, field.name());
    const qmp::Engine only = field.options().GetExtension(qmp::only);
    if (only != qmp::ENGINE_UNSPECIFIED && only != here) {
      command->add_unsupported_fields(name);
    } else if (field.message_type() != nullptr) {
      FindUnsupported(*field.message_type(), here, name, entered, command);
    }
  }
  entered.pop_back();
}

}  // namespace

void FillCapabilities(const backend::Capabilities& capabilities, const std::string& version,
                      v1::GetCapabilitiesResponse* response) {
  const bool is_native = capabilities.engine == backend::EngineKind::kNative;
  *response = capabilities.details;
  response->set_engine(is_native ? v1::ENGINE_TYPE_NATIVE : v1::ENGINE_TYPE_QEMU);
  response->set_engine_version(capabilities.version);
  response->set_service_version(version);
  const bool told = response->commands_size() > 0;
  for (const auto& known : backend::CommandIndex::Get().commands()) {
    if (told || capabilities.commands.count(known->qmp_name) == 0) continue;
    v1::CommandCapability* const command = response->add_commands();
    command->set_command(known->qmp_name);
    command->set_method(absl::StrCat("/", known->rpc_name));
    command->set_deprecated(known->deprecated);
    std::vector<const Descriptor*> entered;
    FindUnsupported(*known->method->input_type(), is_native ? qmp::ENGINE_NATIVE : qmp::ENGINE_QEMU,
                    "", entered, command);
  }
  v1::ServiceLimits& limits = *response->mutable_limits();
  limits.set_events(backend::kEventsKeptMax);
  limits.set_ended_jobs(backend::kEndedJobsMax);
  // A child is three messages deeper: the driver, the reference, the definition.
  limits.set_node_depth(backend::kRequestDepthMax / 3);
  backend::ToProto(backend::kCoalescePeriod, limits.mutable_progress_interval());
}

}  // namespace tidemark::dispatch
