// What it takes to boot a guest here. Plain functions; any thread.
#ifndef TESTS_GUEST_QEMU_H_
#define TESTS_GUEST_QEMU_H_

#include <string>

#include "tests/support/qemu_build.h"

namespace tidemark::test {

// Why no guest can be booted by `qemu` here; empty if one can.
std::string WhyNoGuest(const QemuBuild& qemu);

// The folder that tests/fetch_guest made, which TIDEMARK_GUEST_KERNEL names; empty if it did not.
std::string GuestKernelFolder();

}  // namespace tidemark::test

#endif  // TESTS_GUEST_QEMU_H_
