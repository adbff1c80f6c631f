#include "service/cli/methods.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/check.h"
#include "qmp/options.pb.h"

namespace tidemark::cli {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;

// Where the services are, in the order in which a reader meets them.
constexpr const char* kFiles[] = {
    "tidemark/block/v1/node.proto",    "tidemark/block/v1/bitmap.proto",
    "tidemark/block/v1/job.proto",     "tidemark/block/v1/transaction.proto",
    "tidemark/block/v1/export.proto",  "tidemark/block/v1/device.proto",
    "tidemark/block/v1/machine.proto", "tidemark/block/v1/object.proto",
    "tidemark/block/v1/event.proto",   "tidemark/block/v1/instance.proto",
};

std::string Kebab(absl::string_view camel_case) {
  std::string name;
  for (char c : camel_case) {
    if (absl::ascii_isupper(c) && !name.empty()) name.push_back('-');
    name.push_back(absl::ascii_tolower(c));
  }
  return name;
}

}  // namespace

std::string CommandName(const MethodDescriptor& method) {
  const std::string& command = method.options().GetExtension(::qmp::command);
  return command.empty() ? Kebab(method.name()) : command;
}

std::vector<const MethodDescriptor*> AllMethods() {
  std::vector<const MethodDescriptor*> methods;
  for (const char* name : kFiles) {
    const FileDescriptor* const file = DescriptorPool::generated_pool()->FindFileByName(name);
    CHECK(file != nullptr);
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        methods.push_back(file->service(i)->method(j));
      }
    }
  }
  return methods;
}

const MethodDescriptor* FindMethod(absl::string_view name) {
  if (!name.empty() && name.front() == '/') name.remove_prefix(1);
  const std::string dotted = absl::StrReplaceAll(name, {{"/", "."}});
  for (const MethodDescriptor* method : AllMethods()) {
    if (name == CommandName(*method) || name == method->name() || dotted == method->full_name() ||
        name == Kebab(method->name())) {
      return method;
    }
  }
  return nullptr;
}

std::string RpcPath(const MethodDescriptor& method) {
  return absl::StrCat("/", method.service()->full_name(), "/", method.name());
}

std::unique_ptr<google::protobuf::Message> NewMessage(const google::protobuf::Descriptor& type) {
  const google::protobuf::Message* const prototype =
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(&type);
  CHECK(prototype != nullptr);
  return std::unique_ptr<google::protobuf::Message>(prototype->New());
}

}  // namespace tidemark::cli
