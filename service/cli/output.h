// Responses as people read them. Pure functions; any thread.
#ifndef SERVICE_CLI_OUTPUT_H_
#define SERVICE_CLI_OUTPUT_H_

#include <cstdint>
#include <string>

#include "adapters/qmp/transcoder.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::cli {

// The response of `method` as JSON: in QMP's shape for a command of QMP's, with all its fields for
// one of Tidemark's own.
qmp::Json ResponseJson(const google::protobuf::MethodDescriptor& method,
                       const google::protobuf::Message& response);

// Whether `method` returns nothing but where the event log was.
bool ReturnsNothing(const google::protobuf::MethodDescriptor& method);

// One line, exact; bytes that are not UTF-8 are replaced.
std::string JsonLine(const qmp::Json& json);

// Indented lines "name: value", with "- " before elements of lists. Sizes in bytes are also told
// in binary units.
std::string ReadableText(const qmp::Json& json);

// All on one line: "id=job0 status=running node-names=disk0,target0".
std::string CompactText(const qmp::Json& json);

// `text` without anything that could steer a terminal: control characters escaped as in JSON.
std::string Printable(const std::string& text);

// "1.5 GiB", "512 B".
std::string BytesText(uint64_t bytes);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_OUTPUT_H_
