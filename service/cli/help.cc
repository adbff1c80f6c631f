#include "service/cli/help.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qmp/options.pb.h"
#include "service/cli/member_help.h"
#include "service/cli/methods.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

using google::protobuf::MethodDescriptor;

std::string Deprecation(const MethodDescriptor& method) {
  return method.options().GetExtension(::qmp::deprecated);
}

}  // namespace

std::string CommandHelp(const Manual& manual, const MethodDescriptor& method) {
  const MethodDescriptor& documented = manual.Find(method);
  std::string text = absl::StrCat(CommandName(method), "   (", RpcPath(method), ")\n\n");
  if (!Deprecation(method).empty()) {
    absl::StrAppend(&text, "  Deprecated. Use instead: ", Deprecation(method), ".\n\n");
  }
  absl::StrAppend(&text, Indented(manual.CommentOf(documented), 2), "\n");
  const std::string members = MemberHelp(manual, *documented.input_type(), MemberSide::kRequest);
  absl::StrAppend(&text, members.empty() ? "No members.\n" : "Members\n" + members, "\n");
  if (ReturnsNothing(method)) {
    absl::StrAppend(&text, "Returns nothing");
    if (method.output_type()->field_count() > 0) text += " but where the event log was";
    return text + ".\n";
  }
  absl::StrAppend(&text, method.server_streaming() ? "Returns, again and again\n" : "Returns\n",
                  MemberHelp(manual, *documented.output_type(), MemberSide::kResponse));
  return text;
}

std::string CommandList(const Manual& manual) {
  const std::vector<const MethodDescriptor*> methods = AllMethods();
  size_t width = 0;
  for (const MethodDescriptor* method : methods) {
    width = std::max(width, CommandName(*method).size());
  }
  std::string text;
  const google::protobuf::ServiceDescriptor* service = nullptr;
  for (const MethodDescriptor* method : methods) {
    if (method->service() != service) {
      service = method->service();
      absl::StrAppend(&text, text.empty() ? "" : "\n", service->name(), ": ",
                      FirstSentence(manual.CommentOf(*manual.Find(*method).service())), "\n");
    }
    absl::StrAppendFormat(&text, "  %-*s  %s%s\n", static_cast<int>(width), CommandName(*method),
                          Deprecation(*method).empty() ? "" : "(deprecated) ",
                          FirstSentence(manual.CommentOf(manual.Find(*method))));
  }
  return text;
}

std::string CommandListJson(const Manual& manual) {
  qmp::Json list = qmp::Json::array();
  for (const MethodDescriptor* method : AllMethods()) {
    qmp::Json entry = {{"name", CommandName(*method)},
                       {"method", RpcPath(*method)},
                       {"summary", FirstSentence(manual.CommentOf(manual.Find(*method)))}};
    if (!Deprecation(*method).empty()) entry["deprecated"] = Deprecation(*method);
    list.push_back(std::move(entry));
  }
  return JsonLine(list);
}

}  // namespace tidemark::cli
