// The QEMUs that tests use: the system's own, and a newer one from a folder (tests/fetch_qemu). Any
// thread.
#ifndef TESTS_SUPPORT_QEMU_BUILD_H_
#define TESTS_SUPPORT_QEMU_BUILD_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tidemark::test {

class QemuBuild {
 public:
  // Debian 12's: 7.2.
  static QemuBuild Installed();
  // The one in the folder that the variable TIDEMARK_QEMU_10 names: 10.0.2.
  static QemuBuild Newer();

  // Why it cannot be used; empty if it can.
  std::string Missing() const;

  // The beginning of a command that runs one of its programs: "qemu-storage-daemon".
  std::vector<std::string> Command(absl::string_view program) const;

 private:
  QemuBuild(std::string version, std::string prefix) : version_(version), prefix_(prefix) {}

  // How its version begins.
  std::string version_;
  // The folder that holds usr/bin; empty: programs are found on PATH.
  std::string prefix_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_QEMU_BUILD_H_
