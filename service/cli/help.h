// `tidemark help COMMAND` and `tidemark commands`: what the protos say, by their descriptors.
#ifndef SERVICE_CLI_HELP_H_
#define SERVICE_CLI_HELP_H_

#include <string>

#include "google/protobuf/descriptor.h"
#include "service/cli/manual.h"

namespace tidemark::cli {

// The manual page of one command: what it does, each member of the request with its type, its
// meaning and its values, nested members too, and what it returns.
std::string CommandHelp(const Manual& manual, const google::protobuf::MethodDescriptor& method);

// All commands: name, a sentence, and what to use instead of one that is deprecated.
std::string CommandList(const Manual& manual);

// The same as a JSON list of objects, on one line.
std::string CommandListJson(const Manual& manual);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_HELP_H_
