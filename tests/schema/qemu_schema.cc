#include "tests/schema/qemu_schema.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

struct Program {
  const char* name;
  // As a shell has them: QMP on its standard input and output.
  const char* arguments;
};
constexpr Program kPrograms[] = {
    {"qemu-storage-daemon", "--chardev stdio,id=qmp --monitor chardev=qmp"},
    {"qemu-system-x86_64", "-machine none -nodefaults -accel tcg -display none -qmp stdio"}};

constexpr char kQuestions[] =
    R"({"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{"execute":"quit"})";

}  // namespace

QemuSchema::QemuSchema(const std::vector<std::string>& command) {
  const std::string line = absl::StrJoin(command, " ");
  const ToolResult result = RunTool({"sh", "-c", absl::StrCat("echo '", kQuestions, "' | ", line)});
  Parse(result.output);
  if (!read()) errors_ = absl::StrCat("no schema from ", line, ": ", result.errors);
}

void QemuSchema::Parse(const std::string& lines) {
  for (absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    const Json json = Json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (json.contains("QMP")) {
      const Json& qemu = json["QMP"]["version"]["qemu"];
      version_ = absl::StrCat(qemu["major"].get<int>(), ".", qemu["minor"].get<int>(), ".",
                              qemu["micro"].get<int>());
    }
    if (!json.contains("return") || !json["return"].is_array()) continue;
    for (const Json& entry : json["return"]) {
      const std::string name = entry["name"];
      const std::string kind = entry["meta-type"];
      (kind == "command" ? commands_ : kind == "event" ? events_ : types_)[name] = entry;
    }
  }
}

const Json& QemuSchema::Type(absl::string_view name) const {
  const auto found = types_.find(std::string(name));
  CHECK(found != types_.end());
  return found->second;
}

absl::optional<QemuPrograms> AskQemu(const QemuBuild& build, std::string* why_not) {
  QemuPrograms qemu;
  for (const Program& program : kPrograms) {
    *why_not = build.Missing(program.name);
    if (!why_not->empty()) return absl::nullopt;
    std::vector<std::string> command = build.Command(program.name);
    command.emplace_back(program.arguments);
    const QemuSchema& schema = qemu.programs.emplace_back(command);
    if (!schema.read()) {
      *why_not = schema.errors();
      return absl::nullopt;
    }
    qemu.version = schema.version();
  }
  return qemu;
}

}  // namespace tidemark::test
