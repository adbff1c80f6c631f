// Dangers that were seen on QEMU 7.2 and 10.0.2, but where a version is named.
//
// Nodes that go. A backup, a snapshot or a reopen first waits until its node is at rest. If that is
// the filter or the target of a job which ends just then, the node is freed, and QEMU goes on with
// it. While the job runs QEMU refuses them all, so nothing is lost by refusing them for it.
//
// Files that grow. A backup has bitmaps of the size that its source had at the start. The file
// below a qcow2 node grows as that is written, and QEMU ends at the first write behind the old end.
//
// A file that is changed in vain. blockdev-reopen puts a new file below a qcow2 node before it
// looks at the options that cannot be changed. If it fails at those, it takes the file back, but
// not from where the node has noted it a second time; QEMU ends when the node is used or closed.
//
// Writers that come late. From 8.0 on a mirror learns by its filter of what is written. Users that
// were there before it go through that; whoever is attached to the source itself meanwhile does
// not, and what it writes is not in the copy.
//
// Ways that meet. Before 8.0, QEMU loses count when blockdev-reopen takes a child away below which
// a node is reached in two ways, as below the filter of a backup whose target has its source as
// backing file.
#include "adapters/qmp/graph_dangers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;
using backend::Command;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

namespace {

template <typename Request>
const Request* As(const Message& message) {
  return message.GetDescriptor() == Request::descriptor() ? static_cast<const Request*>(&message)
                                                          : nullptr;
}

const SchemaType* Below(const SchemaType* type, const char* member) {
  if (type == nullptr) return nullptr;
  const auto found = type->members.find(member);
  return found == type->members.end() ? nullptr : found->second.type;
}

// What query-named-block-nodes tells of plain files came with 8.0, too.
bool IsOf8(const Schema& schema) {
  const SchemaCommand* const query = schema.FindCommand("query-named-block-nodes");
  if (query == nullptr || query->returns == nullptr) return false;
  const SchemaType* const specific =
      Below(Below(query->returns->element, "image"), "format-specific");
  return specific != nullptr && specific->variants.contains("file");
}

absl::Status CheckStays(const Command& command, const GraphView& graph, const std::string& name) {
  const std::string node = graph.Resolve(name);
  const std::string job = graph.JobThatTakesAway(node);
  if (job.empty()) return absl::OkStatus();
  return Refuse(command, Reason::kNodeBusy,
                absl::StrCat("node '", node, "' is of job '", job,
                             "', which takes it away at its end, and QEMU would end if that came "
                             "just then; wait for the job"),
                {{"node", name}, {"job", job}});
}

absl::Status CheckSource(const Command& command, const GraphView& graph, const std::string& name) {
  const std::string node = graph.Resolve(name);
  const std::string parent = graph.GrownBy(node);
  if (!parent.empty()) {
    return Refuse(command, Reason::kNodeBusy,
                  absl::StrCat("node '", node, "' is the file of node '", parent,
                               "' and grows as that is written, over which QEMU ends while there "
                               "is a backup of it; back up '",
                               parent, "' instead"),
                  {{"node", name}, {"parent", parent}});
  }
  return CheckStays(command, graph, name);
}

absl::Status CheckWriter(const Command& command, const GraphView& graph, const std::string& name) {
  const std::string filter = graph.MirrorPassedBy(graph.Resolve(name));
  if (filter.empty()) return absl::OkStatus();
  return Error(
      Reason::kNodeBusy,
      absl::StrCat(command.qmp_name, " was not sent to QEMU, to protect the disk: node '", name,
                   "' is being mirrored, and what is written to it by a new user "
                   "would be missing from the copy; export the mirror's filter, node '",
                   filter, "', or wait for the job"),
      {{"node", name}, {"filter", filter}});
}

// The nodes on which copy-before-write nodes are to stand.
void CollectCopied(const google::protobuf::Message& message, std::vector<std::string>* names) {
  if (message.GetDescriptor() == v1::BlockdevOptionsCbw::descriptor()) {
    const auto& copying = static_cast<const v1::BlockdevOptionsCbw&>(message);
    if (copying.file().has_reference()) names->push_back(copying.file().reference());
  }
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* const field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      CollectCopied(reflection.GetMessage(message, field), names);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      CollectCopied(reflection.GetRepeatedMessage(message, field, i), names);
    }
  }
}

// --- Reopening.

// What a node shall have in place of what it has; `is_given` is false if it keeps that.
struct Wanted {
  bool is_given = false;
  // Empty for none.
  std::string name;
};

// The options of the driver itself; null if there are none.
const Message* DriverOptions(const v1::BlockdevOptions& options) {
  const auto* const driver = options.GetDescriptor()->FindOneofByName("driver");
  const auto* const field = options.GetReflection()->GetOneofFieldDescriptor(options, driver);
  if (field == nullptr || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return nullptr;
  return &options.GetReflection()->GetMessage(options, field);
}

Wanted WantedChild(const v1::BlockdevOptions& options, const char* name) {
  const Message* const driver = DriverOptions(options);
  const auto* const field =
      driver == nullptr ? nullptr : driver->GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated() ||
      field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
      !driver->GetReflection()->HasField(*driver, field)) {
    return {};
  }
  const Message& child = driver->GetReflection()->GetMessage(*driver, field);
  if (const auto* const ref = As<v1::BlockdevRef>(child)) {
    return {ref->has_reference(), ref->reference()};
  }
  if (const auto* const ref = As<v1::BlockdevRefOrNull>(child)) {
    return {ref->has_reference() || ref->has_none(), ref->reference()};
  }
  return {};
}

// Which of the options cannot be changed, if they are not as they were; empty if none is given.
std::string FixedOption(const v1::BlockdevOptions& options, const std::string& driver) {
  if (options.node_name()[0] == '#') return "node-name";
  if (!options.has_qcow2() && driver == "qcow2") return "driver";
  if (options.has_force_share()) return "force-share";
  if (options.qcow2().has_data_file()) return "data-file";
  if (options.qcow2().has_encrypt()) return "encrypt";
  return "";
}

absl::Status CheckReopen(const Command& command, const GraphView& graph,
                         const v1::BlockdevOptions& options, bool loses_count) {
  const std::string& node = options.node_name();
  const Json* const record = graph.Node(node);
  if (record == nullptr) return absl::OkStatus();
  if (absl::Status status = CheckStays(command, graph, node); !status.ok()) return status;
  const Json::string_t* const driver = StringMember(*record, "drv");
  const Wanted file = WantedChild(options, "file");
  const bool moves = file.is_given && file.name != graph.Child(node, "file");
  const std::string fixed = FixedOption(options, driver == nullptr ? "" : *driver);
  if (moves && driver != nullptr && *driver == "qcow2" && !fixed.empty()) {
    return Refuse(command, Reason::kInvalidCombination,
                  absl::StrCat("option '", fixed, "' of node '", node,
                               "' cannot be changed, and QEMU ends if it finds that out when it "
                               "has another 'file' in hand; leave out the one or the other"),
                  {{"node", node}, {"field", "options"}, {"option", fixed}});
  }
  for (const char* const edge : {"file", "backing"}) {
    const Wanted wanted = WantedChild(options, edge);
    const std::string child = graph.Child(node, edge);
    if (!loses_count || !wanted.is_given || child.empty() || wanted.name == child) continue;
    const std::string meeting = graph.MeetingPoint(child);
    if (meeting.empty()) continue;
    return Refuse(command, Reason::kNodeBusy,
                  absl::StrCat("'", edge, "' of node '", node, "' is node '", child,
                               "', below which node '", meeting,
                               "' is reached in two ways, and this QEMU ends when such a child is "
                               "taken away; if a job has put its filter there, wait for it"),
                  {{"node", node}, {"child", child}});
  }
  return absl::OkStatus();
}

void Collect(const Command& command, const Message& message, const Schema& schema,
             std::vector<GraphCheck>* checks) {
  const auto add = [&](auto check, const std::string& name) {
    checks->push_back(
        [&command, check, name](const GraphView& graph) { return check(command, graph, name); });
  };
  if (const auto* const transaction = As<v1::TransactionRequest>(message)) {
    for (const v1::TransactionAction& action : transaction->actions()) {
      const auto* const oneof = v1::TransactionAction::descriptor()->FindOneofByName("action");
      const auto* const field = action.GetReflection()->GetOneofFieldDescriptor(action, oneof);
      if (field == nullptr) continue;
      Collect(command, action.GetReflection()->GetMessage(action, field), schema, checks);
    }
  } else if (const auto* const backup = As<v1::BlockdevBackupRequest>(message)) {
    add(CheckSource, backup->device());
  } else if (const auto* const copy = As<v1::DriveBackupRequest>(message)) {
    add(CheckSource, copy->device());
  } else if (const auto* const snapshot = As<v1::BlockdevSnapshotRequest>(message)) {
    add(CheckStays, snapshot->node());
  } else if (const auto* const sync = As<v1::BlockdevSnapshotSyncRequest>(message)) {
    add(CheckStays, sync->device().empty() ? sync->node_name() : sync->device());
  } else if (const auto* const internal = As<v1::BlockdevSnapshotInternalSyncRequest>(message)) {
    add(CheckStays, internal->device());
  } else if (const auto* const one = As<v1::BlockExportAddRequest>(message)) {
    if (one->writable() && IsOf8(schema)) add(CheckWriter, one->node_name());
  } else if (const auto* const server = As<v1::NbdServerAddRequest>(message)) {
    if (server->writable() && IsOf8(schema)) add(CheckWriter, server->device());
  } else if (const auto* const reopen = As<v1::BlockdevReopenRequest>(message)) {
    checks->push_back([&command, reopen, loses_count = !IsOf8(schema)](const GraphView& graph) {
      for (const v1::BlockdevOptions& options : reopen->options()) {
        if (absl::Status status = CheckReopen(command, graph, options, loses_count); !status.ok()) {
          return status;
        }
      }
      return absl::OkStatus();
    });
  }
}

}  // namespace

absl::Status Refuse(const Command& command, Reason reason, absl::string_view why,
                    std::initializer_list<std::pair<absl::string_view, absl::string_view>> named) {
  return Error(
      reason, absl::StrCat(command.qmp_name, " was not sent to QEMU, to protect it: ", why), named);
}

bool CopiesKeepTheirBitmaps(const Schema& schema) {
  const SchemaCommand* const backup = schema.FindCommand("blockdev-backup");
  return backup != nullptr && backup->arguments != nullptr &&
         backup->arguments->members.contains("discard-source");
}

std::vector<std::string> CopiedNodes(const v1::BlockdevOptions& options) {
  std::vector<std::string> names;
  CollectCopied(options, &names);
  return names;
}

std::vector<GraphCheck> GraphChecks(const Command& command, const Message& request,
                                    const Schema& schema) {
  std::vector<GraphCheck> checks;
  Collect(command, request, schema, &checks);
  return checks;
}

}  // namespace tidemark::qmp
