#include "engine/native/command_keys.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "google/protobuf/descriptor.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/export.pb.h"

namespace tidemark::native {
namespace {

namespace pb = google::protobuf;
namespace v1 = block::v1;
using Kind = OrderKey::Kind;

template <typename Message>
bool IsOf(const pb::FieldDescriptor& field) {
  return field.containing_type() == Message::descriptor();
}

bool IsFile(const pb::FieldDescriptor& field) {
  const qmp::Path path = field.options().GetExtension(qmp::path);
  return path == qmp::PATH_FILE || path == qmp::PATH_NEW_FILE;
}

bool IsExport(const pb::FieldDescriptor& field) {
  if (IsOf<v1::BlockExportAddRequest>(field) || IsOf<v1::BlockExportDelRequest>(field)) {
    return field.name() == "id";
  }
  // An export without a name of its own has that of its node.
  if (IsOf<v1::NbdServerAddRequest>(field)) {
    return field.name() == "name" || field.name() == "device";
  }
  return IsOf<v1::NbdServerRemoveRequest>(field) && field.name() == "name";
}

bool IsNode(const pb::FieldDescriptor& field) {
  constexpr const char* kNames[] = {
      "device",    "filter_node_name",  "node", "node_name", "overlay",
      "reference", "snapshot_node_name"};
  return field.options().GetExtension(qmp::job_node) ||
         std::find(std::begin(kNames), std::end(kNames), field.name()) != std::end(kNames);
}

void AddKey(const pb::FieldDescriptor& field, const std::string& value, OrderBook::Keys* keys) {
  if (value.empty()) return;
  if (field.options().GetExtension(qmp::job_id)) keys->push_back({Kind::kJob, value});
  if (IsExport(field)) keys->push_back({Kind::kExport, value});
  if (IsFile(field)) {
    keys->push_back({Kind::kFile, FileKeyOf(value)});
  } else if (IsNode(field)) {
    keys->push_back({Kind::kNode, value});
  }
}

void AddServerKey(const pb::Descriptor* type, OrderBook::Keys* keys) {
  if (type == v1::NbdServerStartRequest::descriptor() ||
      type == v1::NbdServerStopRequest::descriptor()) {
    keys->push_back({Kind::kServer, ""});
  }
  if (type == v1::NbdServerAddRequest::descriptor() ||
      type == v1::NbdServerRemoveRequest::descriptor() ||
      type == v1::BlockExportAddRequest::descriptor() ||
      type == v1::BlockExportDelRequest::descriptor()) {
    keys->push_back({Kind::kServer, "", /*shared=*/true});
  }
}

void AddKeys(const pb::Message& message, OrderBook::Keys* keys) {
  AddServerKey(message.GetDescriptor(), keys);
  const pb::Reflection& reflection = *message.GetReflection();
  std::vector<const pb::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const pb::FieldDescriptor* const field : fields) {
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE) {
        AddKeys(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                     : reflection.GetMessage(message, field),
                keys);
      } else if (field->cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING) {
        AddKey(*field,
               field->is_repeated() ? reflection.GetRepeatedString(message, field, i)
                                    : reflection.GetString(message, field),
               keys);
      }
    }
  }
}

}  // namespace

OrderBook::Keys KeysOf(const pb::Message& message) {
  OrderBook::Keys keys;
  AddKeys(message, &keys);
  return keys;
}

OrderBook::Keys KeysOfNodes(const std::vector<std::string>& node_names) {
  OrderBook::Keys keys;
  for (const std::string& name : node_names) keys.push_back({Kind::kNode, name});
  return keys;
}

std::string FileKeyOf(absl::string_view path) {
  return std::filesystem::path(std::string(path)).lexically_normal().string();
}

}  // namespace tidemark::native
