#include "adapters/qmp/testing/storage_daemon.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"

namespace tidemark::qmp {
namespace {

constexpr char kProgram[] = "qemu-storage-daemon";

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string OnPath() {
  for (absl::string_view folder : absl::StrSplit(Variable("PATH"), ':')) {
    const std::string path = absl::StrCat(folder, "/", kProgram);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

}  // namespace

std::vector<QemuProgram> StorageDaemons() {
  QemuProgram unpacked{"Unpacked10", "", ""};
  if (const std::string folder = Variable("TIDEMARK_QEMU_10"); !folder.empty()) {
    const std::string path = absl::StrCat(folder, "/usr/bin/", kProgram);
    if (access(path.c_str(), X_OK) == 0) unpacked.path = path;
    unpacked.module_folder = absl::StrCat(folder, "/usr/lib/x86_64-linux-gnu/qemu");
  }
  return {QemuProgram{"Installed", OnPath(), ""}, unpacked};
}

StorageDaemon::StorageDaemon(const QemuProgram& program, std::string socket) {
  // Written once the monitors stand.
  const std::string pid_file = socket + ".pid";
  // It ends with the test, however that ends.
  std::vector<std::string> arguments = {
      "setpriv",    "--pdeathsig", "KILL",
      program.path, "--chardev",   absl::StrCat("socket,id=q,server=on,wait=off,path=", socket),
      "--monitor",  "chardev=q",   "--pidfile",
      pid_file};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  if (!program.module_folder.empty()) {
    variables.push_back(absl::StrCat("QEMU_MODULE_DIR=", program.module_folder));
  }
  std::vector<char*> envp;
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);

  CHECK(posix_spawnp(&pid_, "setpriv", nullptr, nullptr, argv.data(), envp.data()) == 0);
  while (access(pid_file.c_str(), F_OK) != 0) {
    CHECK(waitpid(pid_, nullptr, WNOHANG) == 0);  // It ended instead.
    absl::SleepFor(absl::Milliseconds(1));
  }
}

StorageDaemon::~StorageDaemon() {
  if (pid_ > 0) Kill();
}

void StorageDaemon::Freeze() const {
  kill(pid_, SIGSTOP);
  waitpid(pid_, nullptr, WUNTRACED);
}

void StorageDaemon::Thaw() const { kill(pid_, SIGCONT); }

void StorageDaemon::Kill() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace tidemark::qmp
