#include "tests/support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "tests/support/temp_folder.h"

extern char** environ;

namespace tidemark::test {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(2);

// Starts `command` with its output and errors in the two files; -1 if there is no such program.
pid_t Spawn(const std::vector<std::string>& command, const std::string& output_path,
            const std::string& errors_path) {
  posix_spawn_file_actions_t actions;
  CHECK(posix_spawn_file_actions_init(&actions) == 0);
  const int flags = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output_path.c_str(), flags, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, errors_path.c_str(), flags, 0600);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

int StatusOf(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

}  // namespace

ToolResult RunTool(const std::vector<std::string>& command) {
  TempFolder folder;
  const std::string output = folder.File("out");
  const std::string errors = folder.File("err");
  const pid_t pid = Spawn(command, output, errors);
  if (pid < 0) return {127, "", absl::StrCat("cannot run ", command[0])};
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  return {StatusOf(status), ReadFile(output), ReadFile(errors)};
}

bool HasTool(absl::string_view program) {
  const char* path = getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path == nullptr ? "" : path, ':')) {
    if (access(absl::StrCat(folder, "/", program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

Process::Process(const std::vector<std::string>& command, std::string log_path)
    : log_path_(std::move(log_path)) {
  // It ends with the test, also if that is killed.
  std::vector<std::string> bound = {"setpriv", "--pdeathsig", "KILL"};
  bound.insert(bound.end(), command.begin(), command.end());
  pid_ = Spawn(bound, log_path_, log_path_);
  CHECK(pid_ > 0);
}

Process::~Process() {
  if (!running()) return;
  Signal(SIGKILL);
  Wait(absl::Seconds(30));
}

bool Process::running() { return !Wait(absl::ZeroDuration()).has_value(); }

void Process::Signal(int signal) const { kill(pid_, signal); }

absl::optional<int> Process::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!exit_status_.has_value()) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_status_ = StatusOf(status);
    } else if (absl::Now() >= deadline) {
      return absl::nullopt;
    } else {
      absl::SleepFor(kPoll);
    }
  }
  return exit_status_;
}

std::string Process::Log() const { return ReadFile(log_path_); }

}  // namespace tidemark::test
