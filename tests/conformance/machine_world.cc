#include "tests/conformance/machine_world.h"

#include "absl/strings/str_cat.h"

namespace tidemark::test {
namespace {

constexpr char kProgram[] = "qemu-system-x86_64";

}  // namespace

std::vector<std::string> MachineWorld::EngineCommand() {
  std::vector<std::string> command = qemu().Command(kProgram);
  command.insert(
      command.end(),
      {"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-accel", "tcg",
       "-m", "64", "-device", "virtio-scsi-pci,id=scsi0", "-device", "scsi-cd,id=cd0", "-chardev",
       absl::StrCat("socket,path=", monitor_socket(), ",server=on,wait=off,id=monitor"), "-mon",
       "chardev=monitor,mode=control"});
  return command;
}

std::vector<Backend> Machines() {
  std::vector<Backend> machines;
  for (const QemuBuild& qemu : QemuBuild::All()) {
    machines.push_back({qemu.name(), WorldOf<MachineWorld>(qemu), qemu.Missing(kProgram)});
  }
  return machines;
}

}  // namespace tidemark::test
