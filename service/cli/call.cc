#include "service/cli/call.h"

#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "service/cli/arguments.h"
#include "service/cli/error_text.h"
#include "service/cli/methods.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

using google::protobuf::Message;
using google::protobuf::MethodDescriptor;

absl::Status ReadRequest(const Flags& flags, Message* request) {
  const std::vector<std::string> arguments(flags.words.begin() + 1, flags.words.end());
  if (arguments.size() == 1 && (arguments[0] == "-" || absl::StartsWith(arguments[0], "{"))) {
    const std::string text = arguments[0] == "-"
                                 ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                 : arguments[0];
    ASSIGN_OR_RETURN(const qmp::Json json, JsonFromText(text));
    return FillRequest(json, qmp::Strictness::kRequest, flags.instance, request);
  }
  ASSIGN_OR_RETURN(const qmp::Json json, JsonFromArguments(arguments));
  return FillRequest(json, qmp::Strictness::kTyped, flags.instance, request);
}

// The position of the event log before the command, where the response has it.
std::string Confirmation(const MethodDescriptor& method, const Message& response) {
  std::string text = absl::StrCat(CommandName(method), ": done");
  const auto* const field = method.output_type()->FindFieldByName("event_sequence");
  if (field == nullptr) return text + "\n";
  const uint64_t sequence = response.GetReflection()->GetUInt64(response, field);
  return absl::StrCat(text, "; its events: tidemark events --after ", sequence, "\n");
}

void Print(const Session& session, const MethodDescriptor& method, const Message& response) {
  if (session.flags.json) {
    session.output << JsonLine(ResponseJson(method, response));
  } else if (ReturnsNothing(method)) {
    session.output << Confirmation(method, response);
  } else {
    session.output << ReadableText(ResponseJson(method, response));
  }
  session.output.flush();
}

}  // namespace

int RunCall(const Session& session, const MethodDescriptor& method) {
  const std::unique_ptr<Message> request = NewMessage(*method.input_type());
  if (const absl::Status status = ReadRequest(session.flags, request.get()); !status.ok()) {
    session.diagnostics << ErrorText(status) << "  See tidemark help " << CommandName(method)
                        << "\n";
    return kExitUsage;
  }
  const std::unique_ptr<Message> response = NewMessage(*method.output_type());
  grpc::Status status;
  if (method.server_streaming()) {
    status = session.client.Stream(method, *request, response.get(), [&] {
      Print(session, method, *response);
      return true;
    });
  } else {
    status = session.client.Call(method, *request, response.get());
    if (status.ok()) Print(session, method, *response);
  }
  if (status.ok()) return kExitDone;
  session.diagnostics << ErrorText(status, session.client.address());
  return kExitFailed;
}

}  // namespace tidemark::cli
