#include "engine/storage/external_tool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"

namespace tidemark::storage {
namespace {

// Starts a program with its standard streams on fresh pipes, whose other ends are returned.
pid_t Start(const std::vector<std::string>& arguments, int* input_fd, int* output_fd) {
  int input[2];
  int output[2];
  CHECK(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
  std::vector<char*> pointers;
  for (const std::string& argument : arguments)
    pointers.push_back(const_cast<char*>(argument.data()));
  pointers.push_back(nullptr);
  const pid_t process = fork();
  CHECK(process >= 0);
  if (process == 0) {
    dup2(input[0], 0);
    dup2(output[1], 1);
    dup2(output[1], 2);
    execvp(pointers[0], pointers.data());
    _exit(127);
  }
  close(input[0]);
  close(output[1]);
  *input_fd = input[1];
  *output_fd = output[0];
  return process;
}

int ExitCode(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0) CHECK(errno == EINTR);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool ReadSome(int fd, std::string* text) {
  char piece[4096];
  ssize_t got_bytes;
  do {
    got_bytes = read(fd, piece, sizeof(piece));
  } while (got_bytes < 0 && errno == EINTR);
  if (got_bytes <= 0) return false;
  text->append(piece, got_bytes);
  return true;
}

}  // namespace

bool HaveTool(const std::string& name) {
  if (name.find('/') != std::string::npos) return access(name.c_str(), X_OK) == 0;
  const char* path = std::getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path == nullptr ? "" : path, ':')) {
    if (access(absl::StrCat(folder, "/", name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

ToolResult RunTool(const std::vector<std::string>& arguments) {
  int input_fd;
  int output_fd;
  const pid_t process = Start(arguments, &input_fd, &output_fd);
  close(input_fd);
  ToolResult result;
  while (ReadSome(output_fd, &result.output)) {
  }
  close(output_fd);
  result.exit_code = ExitCode(process);
  return result;
}

BackgroundTool::BackgroundTool(const std::vector<std::string>& arguments) {
  process_ = Start(arguments, &input_fd_, &output_fd_);
  // Writing to a program that has ended is an answer, not a reason to die.
  signal(SIGPIPE, SIG_IGN);
}

BackgroundTool::~BackgroundTool() {
  if (process_ >= 0) {
    kill(process_, SIGKILL);
    ExitCode(process_);
  }
  if (input_fd_ >= 0) close(input_fd_);
  close(output_fd_);
}

void BackgroundTool::Write(const std::string& text) {
  (void)!write(input_fd_, text.data(), text.size());
}

std::string BackgroundTool::ReadUntil(const std::string& text) {
  while (output_.find(text) == std::string::npos) {
    if (!ReadSome(output_fd_, &output_)) return "";
  }
  const std::string all = output_;
  output_.erase(0, output_.find(text) + text.size());
  return all;
}

int BackgroundTool::Finish() {
  close(input_fd_);
  input_fd_ = -1;
  while (ReadSome(output_fd_, &output_)) {
  }
  const int code = ExitCode(process_);
  process_ = -1;
  return code;
}

std::string TestPath(const std::string& name) {
  const char* folder = std::getenv("TEST_TMPDIR");
  return absl::StrCat(folder == nullptr ? "/tmp" : folder, "/", name);
}

}  // namespace tidemark::storage
