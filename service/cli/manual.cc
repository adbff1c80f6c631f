#include "service/cli/manual.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "google/protobuf/descriptor.pb.h"
#include "service/cli/descriptor_bytes.h"

namespace tidemark::cli {

Manual::Manual() {
  google::protobuf::FileDescriptorSet files;
  CHECK(files.ParseFromArray(kDescriptorBytes, static_cast<int>(kDescriptorBytesSize)));
  // Each file comes after those that it imports.
  for (const auto& file : files.file()) CHECK(pool_.BuildFile(file) != nullptr);
}

const google::protobuf::MethodDescriptor& Manual::Find(
    const google::protobuf::MethodDescriptor& method) const {
  const auto* const found = pool_.FindMethodByName(method.full_name());
  CHECK(found != nullptr);
  return *found;
}

std::string Manual::Clean(const std::string& comment) {
  std::string clean;
  for (absl::string_view line : absl::StrSplit(comment, '\n')) {
    if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
    absl::StrAppend(&clean, line, "\n");
  }
  clean.erase(clean.find_last_not_of('\n') + 1);
  return clean.empty() ? clean : clean + "\n";
}

std::string FirstSentence(const std::string& comment) {
  const std::string paragraph = comment.substr(0, comment.find("\n\n"));
  const std::string line = absl::StrReplaceAll(paragraph, {{"\n", " "}});
  const size_t end = line.find(". ");
  return std::string(
      absl::StripAsciiWhitespace(end == std::string::npos ? line : line.substr(0, end + 1)));
}

}  // namespace tidemark::cli
