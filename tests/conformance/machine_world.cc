#include "tests/conformance/machine_world.h"

#include "absl/strings/str_cat.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

constexpr char kProgram[] = "qemu-system-x86_64";

std::unique_ptr<World> MakeInstalled(std::vector<std::string> flags) {
  return std::make_unique<MachineWorld>(QemuBuild::Installed(), std::move(flags));
}

std::unique_ptr<World> MakeNewer(std::vector<std::string> flags) {
  return std::make_unique<MachineWorld>(QemuBuild::Newer(), std::move(flags));
}

std::string Missing(const QemuBuild& qemu) {
  if (!qemu.Missing().empty()) return qemu.Missing();
  std::vector<std::string> command = qemu.Command(kProgram);
  command.emplace_back("--version");
  return RunTool(command).exit_status == 0 ? "" : absl::StrCat(kProgram, " is not installed");
}

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
  return {{"Machine72", &MakeInstalled, Missing(QemuBuild::Installed())},
          {"Machine100", &MakeNewer, Missing(QemuBuild::Newer())}};
}

}  // namespace tidemark::test
