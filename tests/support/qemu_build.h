// The QEMUs that tests use: the system's own, and a newer one from a folder (tests/fetch_qemu). Any
// thread.
#ifndef TESTS_SUPPORT_QEMU_BUILD_H_
#define TESTS_SUPPORT_QEMU_BUILD_H_

#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace tidemark::test {

class QemuBuild {
 public:
  // Debian 12's: 7.2.
  static QemuBuild Installed();
  // The one in the folder that the variable TIDEMARK_QEMU_10 names: 10.0.2.
  static QemuBuild Newer();
  // Always both, so that a test that one of them is missing for is seen to be skipped.
  static std::vector<QemuBuild> All() { return {Installed(), Newer()}; }

  // Fit for a test's name: "Qemu72", "Qemu100".
  const std::string& name() const { return name_; }
  friend std::ostream& operator<<(std::ostream& out, const QemuBuild& qemu) {
    return out << qemu.name_;
  }

  // Why `program` of it cannot be used; empty if it can.
  std::string Missing(absl::string_view program = "qemu-storage-daemon") const;

  // The beginning of a command that runs one of its programs: "qemu-storage-daemon".
  std::vector<std::string> Command(absl::string_view program) const;

 private:
  QemuBuild(std::string name, std::string version, std::string prefix)
      : name_(std::move(name)), version_(std::move(version)), prefix_(std::move(prefix)) {}

  std::string name_;
  // How its version begins.
  std::string version_;
  // The folder that holds usr/bin; empty: programs are found on PATH.
  std::string prefix_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_QEMU_BUILD_H_
