#include "tests/guest/qemu.h"

#include <stdlib.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

constexpr char kProgram[] = "qemu-system-x86_64";

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

Qemu Installed() {
  Qemu qemu{"Qemu7", {}, absl::StrCat(kProgram, " is not installed")};
  if (HasTool(kProgram)) qemu.command = {kProgram};
  return qemu;
}

// Packages that were unpacked, not installed, are told where their parts lie.
Qemu Unpacked(const std::string& folder) {
  Qemu qemu{"Qemu10", {}, absl::StrCat("TIDEMARK_QEMU_10 names no folder with ", kProgram)};
  const std::string program = absl::StrCat(folder, "/usr/bin/", kProgram);
  if (folder.empty() || access(program.c_str(), X_OK) != 0) return qemu;
  qemu.command = {"env",
                  absl::StrCat("QEMU_MODULE_DIR=", folder, "/usr/lib/x86_64-linux-gnu/qemu"),
                  program,
                  "-L",
                  absl::StrCat(folder, "/usr/share/qemu"),
                  "-L",
                  absl::StrCat(folder, "/usr/share/seabios")};
  return qemu;
}

}  // namespace

std::vector<Qemu> Qemus() { return {Installed(), Unpacked(Variable("TIDEMARK_QEMU_10"))}; }

std::string WhyNoGuest(const Qemu& qemu) {
  if (qemu.command.empty()) return qemu.why_not;
  if (GuestKernelFolder().empty()) {
    return "TIDEMARK_GUEST_KERNEL names no kernel: see tests/fetch_guest";
  }
  for (const char* tool : {"busybox", "cpio", "qemu-img"}) {
    if (!HasTool(tool)) return absl::StrCat(tool, " is not installed");
  }
  return "";
}

std::string GuestKernelFolder() { return Variable("TIDEMARK_GUEST_KERNEL"); }

}  // namespace tidemark::test
