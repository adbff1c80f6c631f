#include "tests/guest/vm.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "tests/guest/records.h"

namespace tidemark::test {
namespace {

// An emulated machine on a loaded host: one that takes longer hangs.
constexpr absl::Duration kTimeout = absl::Seconds(120);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

// The path of a file among the test's data.
std::string DataFile(const std::string& path) {
  return absl::StrCat(getenv("TEST_SRCDIR"), "/", getenv("TEST_WORKSPACE"), "/", path);
}

// The guest's first file system; made once for each test's folder.
std::string Initramfs(const TempFolder& folder) {
  const std::string path = folder.File("initramfs");
  if (access(path.c_str(), R_OK) == 0) return path;
  const ToolResult made = RunTool({DataFile("tests/guest/make_initramfs"), GuestKernelFolder(),
                                   DataFile("tests/guest/records"), path});
  EXPECT_EQ(made.exit_status, 0) << made.output << made.errors;
  return path;
}

std::array<uint64_t, 2> NumbersIn(const std::string& words) {
  const std::vector<std::string> parts = absl::StrSplit(words, ' ');
  std::array<uint64_t, 2> numbers = {0, 0};
  for (size_t i = 0; i < 2 && i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &numbers[i])) numbers[i] = 0;
  }
  return numbers;
}

guest::Contents ExamineImage(int disk, const std::string& image) {
  TempFolder folder;
  const std::string raw = folder.File("raw");
  const ToolResult converted = RunTool({"qemu-img", "convert", "-O", "raw", image, raw});
  if (converted.exit_status != 0) return {0, converted.errors};
  const int fd = open(raw.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  struct stat status = {};
  CHECK(fstat(fd, &status) == 0);
  const guest::Contents contents = guest::Examine(
      disk, guest::SlotCount(static_cast<uint64_t>(status.st_size)),
      [fd](uint64_t offset_bytes, unsigned char* record) {
        return pread(fd, record, guest::kRecordBytes, static_cast<off_t>(offset_bytes)) ==
               static_cast<ssize_t>(guest::kRecordBytes);
      });
  close(fd);
  return contents;
}

}  // namespace

Vm::Vm(const TempFolder* folder, const QemuBuild& qemu, const std::string& name, Role role,
       const std::array<std::string, 2>& images, const std::vector<std::string>& devices)
    : folder_(folder), name_(name) {
  std::vector<std::string> command = qemu.Command("qemu-system-x86_64");
  command.insert(command.end(), {"-machine",
                                 "pc,accel=tcg",
                                 "-m",
                                 "96",
                                 "-nodefaults",
                                 "-no-user-config",
                                 "-display",
                                 "none",
                                 "-no-reboot",
                                 "-name",
                                 name,
                                 "-kernel",
                                 absl::StrCat(GuestKernelFolder(), "/vmlinuz"),
                                 "-initrd",
                                 Initramfs(*folder),
                                 "-append",
                                 absl::StrCat("console=ttyS0 quiet panic=-1 role=",
                                              role == Role::kWrite ? "write" : "verify"),
                                 "-serial",
                                 absl::StrCat("file:", folder->File(name + ".console")),
                                 "-qmp",
                                 absl::StrCat("unix:", monitor(), ",server=on,wait=off")});
  for (size_t i = 0; i < images.size(); ++i) {
    command.insert(command.end(),
                   {"-blockdev",
                    absl::StrCat("driver=qcow2,node-name=disk", i,
                                 ",discard=unmap,file.driver=file,file.filename=", images[i]),
                    "-device", absl::StrCat("virtio-blk-pci,id=virtio", i, ",drive=disk", i)});
  }
  command.insert(command.end(), devices.begin(), devices.end());
  process_ = std::make_unique<Process>(command, folder->File(name + ".log"));
}

std::string Vm::LastSaid(const std::string& verb) const {
  const std::string path = folder_->File(name_ + ".console");
  if (access(path.c_str(), R_OK) != 0) return "";
  const std::string prefix = absl::StrCat("records: ", verb);
  std::string last;
  const std::string console = ReadFile(path);
  for (size_t at = console.find(prefix); at != std::string::npos;
       at = console.find(prefix, at + 1)) {
    const size_t end = console.find('\r', at);
    if (end != std::string::npos) {
      last = console.substr(at + prefix.size(), end - at - prefix.size());
    }
  }
  return std::string(absl::StripPrefix(last, " "));
}

uint64_t Vm::Written() const { return NumbersIn(LastSaid("wrote"))[0]; }

bool Vm::AwaitWritten(uint64_t number) {
  const absl::Time deadline = absl::Now() + kTimeout;
  while (Written() < number && absl::Now() < deadline && running()) absl::SleepFor(kPoll);
  const uint64_t written = Written();
  EXPECT_GE(written, number) << "the guest does not write:\n" << Log();
  return written >= number;
}

std::array<uint64_t, 2> Vm::AwaitVerdict() {
  EXPECT_EQ(process_->Wait(kTimeout), 0) << Log();
  const std::string good = LastSaid("ok");
  EXPECT_NE(good, "") << Log();
  return NumbersIn(good);
}

int Vm::Stop() {
  Signal(SIGTERM);
  return process_->Wait(kTimeout).value_or(-1);
}

void Vm::Kill() {
  Signal(SIGKILL);
  process_->Wait(kTimeout);
}

std::string Vm::Log() const {
  const std::string path = folder_->File(name_ + ".console");
  std::string console = access(path.c_str(), R_OK) == 0 ? ReadFile(path) : "";
  constexpr size_t kTail = 2000;
  if (console.size() > kTail) console.erase(0, console.size() - kTail);
  return absl::StrCat("QEMU said:\n", process_->Log(), "\nthe console ends:\n", console);
}

std::array<uint64_t, 2> ExamineImages(const std::array<std::string, 2>& images) {
  const guest::Contents disk0 = ExamineImage(0, images[0]);
  const guest::Contents disk1 = ExamineImage(1, images[1]);
  EXPECT_EQ(guest::FaultOf(disk0, disk1), "") << images[0] << ", " << images[1];
  return {disk0.newest, disk1.newest};
}

std::string FaultOfImages(const std::array<std::string, 2>& images) {
  return guest::FaultOf(ExamineImage(0, images[0]), ExamineImage(1, images[1]));
}

}  // namespace tidemark::test
