// A virtual machine with a real Linux guest on two virtio disks, emulated (TCG) so that it runs
// anywhere, and what its guest says on the console. One thread.
//
// The guest writes numbered records (records.h) on its disks, or verifies those that it finds. The
// disks' nodes are "disk0" and "disk1", their devices "virtio0" and "virtio1".
#ifndef TESTS_GUEST_VM_H_
#define TESTS_GUEST_VM_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/guest/qemu.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

enum class Role { kWrite, kVerify };

class Vm {
 public:
  // Boots it on two qcow2 images; its files in `folder` begin with `name`. `devices` are further
  // arguments for QEMU.
  Vm(const TempFolder* folder, const QemuBuild& qemu, const std::string& name, Role role,
     const std::array<std::string, 2>& images, const std::vector<std::string>& devices = {});
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  // QEMU's monitor: a unix socket on which it waits for one client after another.
  std::string monitor() const { return folder_->File(name_ + ".qmp"); }

  // The newest record that the guest has told of. It tells of every 16th; 0 before the first.
  uint64_t Written() const;
  // Waits until the guest has told of record `number`; false, and the test fails, if it does not.
  bool AwaitWritten(uint64_t number);
  // Waits until the guest has written this many records more than it has told of by now.
  bool AwaitMore(uint64_t count) { return AwaitWritten(Written() + count); }
  // Waits until a guest that verifies has switched itself off. The newest records that it found on
  // the two disks; {0, 0}, and the test fails, if the disks are not of one moment.
  std::array<uint64_t, 2> AwaitVerdict();

  bool running() { return process_->running(); }
  // Ends QEMU in good order; its exit status, 0 if all is well.
  int Stop();
  // Ends QEMU at once. What the guest has written is on its disks if it was stopped before: QMP's
  // `stop` flushes them.
  void Kill();
  void Signal(int signal) { process_->Signal(signal); }

  // All that the guest and QEMU have said, to explain a failure.
  std::string Log() const;

 private:
  // The words after the last "records: `verb`" on a whole line of the console.
  std::string LastSaid(const std::string& verb) const;

  const TempFolder* const folder_;
  const std::string name_;
  std::unique_ptr<Process> process_;
};

// What a judge without any guest finds in two images that nobody has open: as AwaitVerdict.
std::array<uint64_t, 2> ExamineImages(const std::array<std::string, 2>& images);
// What is wrong with them; empty if nothing is.
std::string FaultOfImages(const std::array<std::string, 2>& images);

}  // namespace tidemark::test

#endif  // TESTS_GUEST_VM_H_
