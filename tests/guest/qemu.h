// The system emulators at hand: QEMU as a host runs it. Plain functions; any thread.
#ifndef TESTS_GUEST_QEMU_H_
#define TESTS_GUEST_QEMU_H_

#include <ostream>
#include <string>
#include <vector>

#include "tests/support/qemu_build.h"

namespace tidemark::test {

struct Qemu {
  // Fit for a test's name: "Qemu7", "Qemu10".
  std::string name;
  QemuBuild build;

  friend std::ostream& operator<<(std::ostream& out, const Qemu& qemu) { return out << qemu.name; }
};

// The installed one and the newer one. Always both, so that a test that one of them is missing for
// is seen to be skipped.
std::vector<Qemu> Qemus();

// Why no guest can be booted by `qemu` here; empty if one can.
std::string WhyNoGuest(const Qemu& qemu);

// The folder that tests/fetch_guest made, which TIDEMARK_GUEST_KERNEL names; empty if it did not.
std::string GuestKernelFolder();

}  // namespace tidemark::test

#endif  // TESTS_GUEST_QEMU_H_
