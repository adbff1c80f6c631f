#include "tests/conformance/machine_world.h"

#include "absl/strings/str_cat.h"

namespace tidemark::test {
namespace {

constexpr char kProgram[] = "qemu-system-x86_64";

}  // namespace

std::vector<std::string> MachineCommand(const QemuBuild& qemu) {
  std::vector<std::string> command = qemu.Command(kProgram);
  command.insert(command.end(), {"-nodefaults", "-no-user-config", "-display", "none", "-machine",
                                 "q35", "-accel", "tcg", "-m", "64", "-device",
                                 "virtio-scsi-pci,id=scsi0", "-device", "scsi-cd,id=cd0"});
  return command;
}

std::vector<std::string> MachineWorld::EngineCommand() {
  std::vector<std::string> command = MachineCommand(qemu());
  const std::string monitor =
      absl::StrCat("socket,path=", monitor_socket(), ",server=on,wait=off,id=monitor");
  const std::string second = absl::StrCat("unix:", SecondMonitor(folder()), ",server=on,wait=off");
  command.insert(command.end(),
                 {"-chardev", monitor, "-mon", "chardev=monitor,mode=control", "-qmp", second});
  return command;
}

std::string SecondMonitor(const TempFolder& folder) { return folder.File("second.sock"); }

std::vector<std::string> WaitingMachineWorld::EngineCommand() {
  std::vector<std::string> command = MachineWorld::EngineCommand();
  command.insert(command.end(), {"-incoming", "defer"});
  return command;
}

std::vector<std::string> DriveMachineWorld::EngineCommand() {
  std::vector<std::string> command = MachineWorld::EngineCommand();
  command.insert(command.end(),
                 {"-drive", "if=none,id=drive0,node-name=plate0,driver=null-co,size=8M"});
  return command;
}

namespace {

template <class Made>
std::vector<Backend> OfEveryVersion() {
  std::vector<Backend> machines;
  for (const QemuBuild& qemu : QemuBuild::All()) {
    machines.push_back({qemu.name(), WorldOf<Made>(qemu), qemu.Missing(kProgram)});
  }
  return machines;
}

}  // namespace

std::vector<Backend> Machines() { return OfEveryVersion<MachineWorld>(); }

std::vector<Backend> WaitingMachines() { return OfEveryVersion<WaitingMachineWorld>(); }

std::vector<Backend> DriveMachines() { return OfEveryVersion<DriveMachineWorld>(); }

}  // namespace tidemark::test
