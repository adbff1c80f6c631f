#include "tests/guest/qemu.h"

#include <stdlib.h>

#include "absl/strings/str_cat.h"
#include "tests/support/process.h"

namespace tidemark::test {

std::string WhyNoGuest(const QemuBuild& qemu) {
  if (GuestKernelFolder().empty()) {
    return "TIDEMARK_GUEST_KERNEL names no kernel: see tests/fetch_guest";
  }
  for (const char* tool : {"busybox", "cpio", "qemu-img"}) {
    if (!HasTool(tool)) return absl::StrCat(tool, " is not installed");
  }
  return qemu.Missing("qemu-system-x86_64");
}

std::string GuestKernelFolder() {
  const char* folder = getenv("TIDEMARK_GUEST_KERNEL");
  return folder == nullptr ? "" : folder;
}

}  // namespace tidemark::test
