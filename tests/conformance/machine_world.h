// Worlds whose engine is a virtual machine: a system emulator without a guest, with an empty CD
// drive "cd0" on the SCSI bus "scsi0.0", and with a second monitor.
#ifndef TESTS_CONFORMANCE_MACHINE_WORLD_H_
#define TESTS_CONFORMANCE_MACHINE_WORLD_H_

#include <string>
#include <vector>

#include "tests/conformance/qemu_world.h"

namespace tidemark::test {

class MachineWorld : public QemuWorld {
 public:
  using QemuWorld::QemuWorld;

 protected:
  std::vector<std::string> EngineCommand() override;
};

// One that waits to be migrated here: its images are another's as yet.
class WaitingMachineWorld final : public MachineWorld {
 public:
  using MachineWorld::MachineWorld;

 protected:
  std::vector<std::string> EngineCommand() override;
};

// One with a drive "drive0" in QEMU's old manner, which shows an empty disk, node "plate0".
class DriveMachineWorld final : public MachineWorld {
 public:
  using MachineWorld::MachineWorld;

 protected:
  std::vector<std::string> EngineCommand() override;
};

// Such a machine, without monitors.
std::vector<std::string> MachineCommand(const QemuBuild& qemu);

// Where somebody beside the service has a QMP monitor: what is no block command goes there.
std::string SecondMonitor(const TempFolder& folder);

// The virtual machines of every version. Commands that only they have are refused elsewhere:
// unsupported_scenarios_test.cc tells that.
std::vector<Backend> Machines();
std::vector<Backend> WaitingMachines();
std::vector<Backend> DriveMachines();

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_MACHINE_WORLD_H_
