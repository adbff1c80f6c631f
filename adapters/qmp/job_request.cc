#include "adapters/qmp/job_request.h"

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "engine/backend/limits.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr char kAutoFinalize[] = "auto_finalize";
constexpr char kAutoDismiss[] = "auto_dismiss";

v1::JobType TypeStartedBy(const Message& message) {
  const backend::Command* const command =
      backend::CommandIndex::Get().ByRequest(message.GetDescriptor());
  v1::JobType type = v1::JOB_TYPE_UNSPECIFIED;
  if (command != nullptr) {
    v1::JobType_Parse(command->method->options().GetExtension(::qmp::starts_job), &type);
  }
  return type;
}

// Of the field called `name`: true if it is not set, for that is QMP's default; false if the
// command has no such choice.
bool Flag(const Message& message, const char* name) {
  const FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr) return false;
  const auto& reflection = *message.GetReflection();
  return !reflection.HasField(message, field) || reflection.GetBool(message, field);
}

v1::Job JobOf(const Message& message, v1::JobType type, absl::string_view instance) {
  v1::Job job;
  job.set_instance(std::string(instance));
  job.set_type(type);
  job.set_auto_dismiss(Flag(message, kAutoDismiss));
  job.set_auto_finalize(message.GetDescriptor()->FindFieldByName(kAutoFinalize) == nullptr ||
                        Flag(message, kAutoFinalize));
  const auto& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    const auto& options = field.options();
    if (options.GetExtension(::qmp::job_id)) job.set_id(reflection.GetString(message, &field));
    if (options.GetExtension(::qmp::job_node)) {
      const int size = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
      for (int j = 0; j < size; ++j) {
        std::string node = field.is_repeated() ? reflection.GetRepeatedString(message, &field, j)
                                               : reflection.GetString(message, &field);
        if (!node.empty()) job.add_node_names(std::move(node));
      }
    }
    if (field.name() == "speed") {
      job.set_speed_bytes_per_second(reflection.GetInt64(message, &field));
    }
  }
  if (job.id().empty() && !job.node_names().empty()) job.set_id(job.node_names(0));
  return job;
}

bool HasJobId(const Message& message) {
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.options().GetExtension(::qmp::job_id)) {
      return !message.GetReflection()->GetString(message, &field).empty();
    }
  }
  return false;
}

// Calls `visit` for the request and every message in it. What came through validation is not
// nested deeper than kRequestDepthMax.
template <typename MessageType, typename Visit>
void ForEachMessage(MessageType& message, const Visit& visit, int depth = 0) {
  if (depth > backend::kRequestDepthMax) return;
  visit(message);
  const auto& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* const field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const int size = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < size; ++i) {
      if constexpr (std::is_const_v<MessageType>) {
        ForEachMessage<const Message>(field->is_repeated()
                                          ? reflection.GetRepeatedMessage(message, field, i)
                                          : reflection.GetMessage(message, field),
                                      visit, depth + 1);
      } else {
        ForEachMessage<Message>(
            *(field->is_repeated() ? reflection.MutableRepeatedMessage(&message, field, i)
                                   : reflection.MutableMessage(&message, field)),
            visit, depth + 1);
      }
    }
  }
}

}  // namespace

std::vector<v1::Job> JobsStartedBy(const Message& request, absl::string_view instance) {
  std::vector<v1::Job> jobs;
  ForEachMessage<const Message>(request, [&](const Message& message) {
    const v1::JobType type = TypeStartedBy(message);
    if (type != v1::JOB_TYPE_UNSPECIFIED) jobs.push_back(JobOf(message, type, instance));
  });
  return jobs;
}

bool LacksJobId(const Message& request) {
  bool lacks = false;
  ForEachMessage<const Message>(request, [&](const Message& message) {
    lacks |= TypeStartedBy(message) != v1::JOB_TYPE_UNSPECIFIED && !HasJobId(message);
  });
  return lacks;
}

void NameAfterDrives(const Message& request, const GraphView& graph, std::vector<v1::Job>* jobs) {
  // A snapshot in the same transaction hands its drive on to the overlay.
  std::map<std::string, std::string> drives = graph.Drives();
  const auto node_of = [&](const std::string& name) {
    for (const auto& [node, drive] : drives) {
      if (drive == name) return node;
    }
    return name;
  };
  const auto hand_on = [&](const std::string& node, const std::string& overlay) {
    const auto drive = drives.extract(node_of(node));
    if (!drive.empty()) drives[overlay] = drive.mapped();
  };
  size_t next = 0;
  ForEachMessage<const Message>(request, [&](const Message& message) {
    if (message.GetDescriptor() == v1::BlockdevSnapshotRequest::descriptor()) {
      const auto& snapshot = static_cast<const v1::BlockdevSnapshotRequest&>(message);
      return hand_on(snapshot.node(), snapshot.overlay());
    }
    if (message.GetDescriptor() == v1::BlockdevSnapshotSyncRequest::descriptor()) {
      const auto& snapshot = static_cast<const v1::BlockdevSnapshotSyncRequest&>(message);
      return hand_on(snapshot.device().empty() ? snapshot.node_name() : snapshot.device(),
                     snapshot.snapshot_node_name());
    }
    if (TypeStartedBy(message) == v1::JOB_TYPE_UNSPECIFIED) return;
    v1::Job& job = (*jobs)[next++];
    if (HasJobId(message) || job.node_names().empty()) return;
    const auto drive = drives.find(node_of(job.node_names(0)));
    if (drive != drives.end()) job.set_id(drive->second);
  });
}

void KeepResults(Message* request) {
  ForEachMessage<Message>(*request, [](Message& message) {
    if (TypeStartedBy(message) == v1::JOB_TYPE_UNSPECIFIED) return;
    const FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName(kAutoDismiss);
    if (field != nullptr) message.GetReflection()->SetBool(&message, field, false);
  });
}

}  // namespace tidemark::qmp
