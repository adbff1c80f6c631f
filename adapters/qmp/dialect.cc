#include "adapters/qmp/dialect.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/event_reader.h"
#include "adapters/qmp/schema_check.h"
#include "engine/backend/command.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// What the schema does not tell about drivers.
const std::set<absl::string_view>& ReadOnlyDrivers() {
  static const auto* const drivers = new std::set<absl::string_view>{
      "bochs", "cloop", "dmg", "ftp", "ftps", "http", "https", "host_cdrom", "snapshot-access"};
  return *drivers;
}
const std::set<absl::string_view>& CompressingDrivers() {
  static const auto* const drivers = new std::set<absl::string_view>{"qcow", "qcow2", "vmdk"};
  return *drivers;
}

// The type of a member of a command's arguments; null if there is none.
const SchemaType* ArgumentType(const Schema& schema, const char* command, const char* member) {
  const SchemaCommand* const known = schema.FindCommand(command);
  if (known == nullptr) return nullptr;
  const auto found = known->arguments->members.find(member);
  return found == known->arguments->members.end() ? nullptr : found->second.type;
}

const SchemaType* Member(const SchemaType* type, const char* name) {
  if (type == nullptr) return nullptr;
  const auto found = type->members.find(name);
  return found == type->members.end() ? nullptr : found->second.type;
}

void AddCommands(const Schema& schema, backend::Capabilities* capabilities) {
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    if (schema.FindCommand(command->qmp_name) == nullptr) continue;
    capabilities->commands.insert(command->qmp_name);
    v1::CommandCapability& told = *capabilities->details.add_commands();
    told.set_command(command->qmp_name);
    told.set_method(absl::StrCat("/", command->rpc_name));
    told.set_deprecated(command->deprecated);
    for (std::string& path : UnsupportedFields(schema, *command)) {
      told.add_unsupported_fields(std::move(path));
    }
  }
}

void AddDrivers(const Schema& schema, v1::GetCapabilitiesResponse* details) {
  const SchemaCommand* const add = schema.FindCommand("blockdev-add");
  const SchemaType* const drivers =
      add == nullptr ? nullptr : ArgumentType(schema, "blockdev-add", "driver");
  const SchemaType* const creates =
      Member(ArgumentType(schema, "blockdev-create", "options"), "driver");
  const SchemaType* const create_options = ArgumentType(schema, "blockdev-create", "options");
  if (drivers == nullptr) return;
  const auto& type = *v1::BlockdevDriver_descriptor();
  for (int i = 1; i < type.value_count(); ++i) {
    const std::string name = ValueName(*type.value(i));
    if (!drivers->values.contains(name)) continue;
    v1::DriverCapability& driver = *details->add_drivers();
    driver.set_driver(static_cast<v1::BlockdevDriver>(type.value(i)->number()));
    driver.set_open(true);
    driver.set_write(!ReadOnlyDrivers().contains(name));
    driver.set_create(creates != nullptr && create_options->variants.contains(name));
    const auto options = add->arguments->variants.find(name);
    driver.set_backing(options != add->arguments->variants.end() &&
                       Member(options->second, "backing") != nullptr);
    driver.set_persistent_bitmaps(name == "qcow2");
    driver.set_compress(CompressingDrivers().contains(name));
  }
}

template <typename Enum, typename Add>
void AddValues(const SchemaType* type, const google::protobuf::EnumDescriptor& proto, Add add) {
  for (int i = 1; type != nullptr && i < proto.value_count(); ++i) {
    if (type->values.contains(ValueName(*proto.value(i)))) {
      add(static_cast<Enum>(proto.value(i)->number()));
    }
  }
}

std::shared_ptr<const backend::Capabilities> CapabilitiesOf(absl::string_view version,
                                                            const Schema& schema) {
  auto capabilities = std::make_shared<backend::Capabilities>();
  capabilities->engine = backend::EngineKind::kQemu;
  capabilities->version = std::string(version);
  AddCommands(schema, capabilities.get());
  v1::GetCapabilitiesResponse& details = capabilities->details;
  AddDrivers(schema, &details);
  for (const v1::EventKind kind : KindsOf(schema)) details.add_events(kind);
  const SchemaCommand* const jobs = schema.FindCommand("query-jobs");
  if (jobs != nullptr) {
    AddValues<v1::JobType>(Member(jobs->returns->element, "type"), *v1::JobType_descriptor(),
                           [&](v1::JobType type) { details.add_job_types(type); });
  }
  AddValues<v1::BlockExportType>(ArgumentType(schema, "block-export-add", "type"),
                                 *v1::BlockExportType_descriptor(),
                                 [&](v1::BlockExportType type) { details.add_export_types(type); });
  return capabilities;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Dialect>> DialectCache::Get(absl::string_view version,
                                                                 const Json& schema) {
  const std::string key =
      absl::StrCat(version, "\n", schema.dump(-1, ' ', false, Json::error_handler_t::replace));
  {
    MutexLock lock(&mutex_);
    std::erase_if(dialects_, [](const auto& entry) { return entry.second.expired(); });
    const auto found = dialects_.find(key);
    if (found != dialects_.end()) {
      if (auto dialect = found->second.lock()) return dialect;
    }
  }
  // Two that come at once are both made; the later one is kept.
  auto dialect = std::make_shared<Dialect>();
  ASSIGN_OR_RETURN(dialect->schema, Schema::Parse(schema));
  dialect->capabilities = CapabilitiesOf(version, *dialect->schema);
  MutexLock lock(&mutex_);
  dialects_[key] = dialect;
  return std::shared_ptr<const Dialect>(std::move(dialect));
}

}  // namespace tidemark::qmp
