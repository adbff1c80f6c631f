// Every RPC of the API by the names that people type. Constant; any thread.
#ifndef SERVICE_CLI_METHODS_H_
#define SERVICE_CLI_METHODS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::cli {

// The name to type: QMP's ("blockdev-backup"), or for Tidemark's own the RPC's in kebab case
// ("get-job").
std::string CommandName(const google::protobuf::MethodDescriptor& method);

// Any of: CommandName, the RPC's name, its full name with '/' or '.'. Null if there is none.
const google::protobuf::MethodDescriptor* FindMethod(absl::string_view name);

// All, in the order of the protos.
std::vector<const google::protobuf::MethodDescriptor*> AllMethods();

// "/tidemark.block.v1.JobService/GetJob".
std::string RpcPath(const google::protobuf::MethodDescriptor& method);

// A new message of a type compiled into this program.
std::unique_ptr<google::protobuf::Message> NewMessage(const google::protobuf::Descriptor& type);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_METHODS_H_
