#include "tests/guest/qemu.h"

#include <stdlib.h>

#include "absl/strings/str_cat.h"
#include "tests/support/process.h"

namespace tidemark::test {

std::vector<Qemu> Qemus() {
  return {{"Qemu7", QemuBuild::Installed()}, {"Qemu10", QemuBuild::Newer()}};
}

std::string WhyNoGuest(const Qemu& qemu) {
  if (GuestKernelFolder().empty()) {
    return "TIDEMARK_GUEST_KERNEL names no kernel: see tests/fetch_guest";
  }
  for (const char* tool : {"qemu-system-x86_64", "busybox", "cpio", "qemu-img"}) {
    if (!HasTool(tool)) return absl::StrCat(tool, " is not installed");
  }
  return qemu.build.Missing();
}

std::string GuestKernelFolder() {
  const char* folder = getenv("TIDEMARK_GUEST_KERNEL");
  return folder == nullptr ? "" : folder;
}

}  // namespace tidemark::test
