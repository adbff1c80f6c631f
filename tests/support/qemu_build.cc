#include "tests/support/qemu_build.h"

#include <stdlib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

constexpr char kFolderVariable[] = "TIDEMARK_QEMU_10";

}  // namespace

QemuBuild QemuBuild::Installed() { return QemuBuild("Qemu72", "7.2", ""); }

QemuBuild QemuBuild::Newer() {
  const char* folder = getenv(kFolderVariable);
  return QemuBuild("Qemu100", "10.0", folder == nullptr || *folder == '\0' ? "none" : folder);
}

std::string QemuBuild::Missing(absl::string_view program) const {
  if (prefix_ == "none") return absl::StrCat(kFolderVariable, " names no folder with QEMU 10.0.2");
  std::vector<std::string> command = Command(program);
  command.emplace_back("--version");
  const ToolResult said = RunTool(command);
  if (said.exit_status != 0) {
    return absl::StrCat(program, " ", version_, " cannot be run: ", said.errors);
  }
  if (!absl::StrContains(said.output, absl::StrCat("version ", version_, "."))) {
    return absl::StrCat(program, " is not ", version_, ": ", said.output);
  }
  return "";
}

std::vector<std::string> QemuBuild::Command(absl::string_view program) const {
  if (prefix_.empty()) return {std::string(program)};
  std::vector<std::string> command = {
      "env", absl::StrCat("QEMU_MODULE_DIR=", prefix_, "/usr/lib/x86_64-linux-gnu/qemu"),
      absl::StrCat(prefix_, "/usr/bin/", program)};
  if (absl::StartsWith(program, "qemu-system-")) {
    // A machine's firmware lies beside it.
    command.insert(command.end(), {"-L", absl::StrCat(prefix_, "/usr/share/qemu"), "-L",
                                   absl::StrCat(prefix_, "/usr/share/seabios")});
  }
  return command;
}

}  // namespace tidemark::test
