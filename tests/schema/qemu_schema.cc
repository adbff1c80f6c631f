#include "tests/schema/qemu_schema.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

constexpr char kQuestions[] =
    R"({"execute":"qmp_capabilities"}{"execute":"query-qmp-schema"}{"execute":"quit"})";

absl::optional<QemuPrograms> Ask(const std::string& bin, const std::string& environment,
                                 const std::string& machine_arguments, std::string* why_not) {
  QemuPrograms qemu;
  qemu.programs.emplace_back(bin + "qemu-storage-daemon", environment,
                             "--chardev stdio,id=qmp --monitor chardev=qmp");
  qemu.programs.emplace_back(
      bin + "qemu-system-x86_64", environment,
      absl::StrCat("-machine none -nodefaults -accel tcg -display none -qmp stdio",
                   machine_arguments));
  for (const QemuSchema& program : qemu.programs) {
    if (!program.read()) {
      *why_not = program.errors();
      return absl::nullopt;
    }
    qemu.version = program.version();
  }
  return qemu;
}

}  // namespace

QemuSchema::QemuSchema(const std::string& program, const std::string& environment,
                       const std::string& arguments) {
  if (!HasTool(program) && access(program.c_str(), X_OK) != 0) {
    errors_ = absl::StrCat(program, " is not installed");
    return;
  }
  const ToolResult result = RunTool(
      {"sh", "-c",
       absl::StrCat("echo '", kQuestions, "' | ", environment, " ", program, " ", arguments)});
  Parse(result.output);
  if (!read()) errors_ = absl::StrCat(program, " gave no schema: ", result.errors);
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

absl::optional<QemuPrograms> InstalledQemu(std::string* why_not) {
  return Ask("", "", "", why_not);
}

absl::optional<QemuPrograms> Qemu10(std::string* why_not) {
  const char* const folder = std::getenv("TIDEMARK_QEMU_10");
  if (folder == nullptr || *folder == '\0') {
    *why_not = "TIDEMARK_QEMU_10 names no folder with QEMU 10";
    return absl::nullopt;
  }
  const std::string usr = absl::StrCat(folder, "/usr/");
  return Ask(usr + "bin/", absl::StrCat("QEMU_MODULE_DIR=", usr, "lib/x86_64-linux-gnu/qemu"),
             absl::StrCat(" -L ", usr, "share/qemu -L ", usr, "share/seabios"), why_not);
}

}  // namespace tidemark::test
