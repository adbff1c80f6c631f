#include "engine/format/qcow2/testing/qemu_tools.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kPieceBytes = 1 << 20;

// Starts `command` with standard input and outputs as given; its own ends are closed on exec.
pid_t Start(const std::vector<std::string>& command, int input, int output) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid > 0) return pid;
  dup2(input, STDIN_FILENO);
  dup2(output, STDOUT_FILENO);
  dup2(output, STDERR_FILENO);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

int ExitCode(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

bool HasTool(const std::string& program) {
  const char* path = std::getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path != nullptr ? path : "", ':')) {
    if (access(absl::StrCat(folder, "/", program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

ToolResult RunTool(const std::vector<std::string>& command) {
  int output[2];
  CHECK(pipe2(output, O_CLOEXEC) == 0);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK(nothing >= 0);
  const pid_t pid = Start(command, nothing, output[1]);
  close(output[1]);
  close(nothing);
  ToolResult result;
  char buffer[4096];
  for (;;) {
    const ssize_t count = read(output[0], buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    result.output.append(buffer, count);
  }
  close(output[0]);
  result.exit_code = ExitCode(pid);
  return result;
}

std::string RunToolOrFail(const std::vector<std::string>& command) {
  const ToolResult result = RunTool(command);
  EXPECT_EQ(result.exit_code, 0) << absl::StrJoin(command, " ") << "\n" << result.output;
  return result.output;
}

std::string TemporaryPath(absl::string_view name) {
  // Two test processes of one target share TEST_TMPDIR when it is sharded or run by hand.
  return absl::StrCat(testing::TempDir(), "/", getpid(), "-", name);
}

void SaveFile(const storage::MemoryStorage& contents, const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  const uint64_t size_bytes = contents.size_bytes();
  CHECK(ftruncate(fd, size_bytes) == 0);
  for (uint64_t at = 0; at < size_bytes; at += kPieceBytes) {
    const std::string piece = contents.Contents({at, std::min(kPieceBytes, size_bytes - at)});
    if (piece.find_first_not_of('\0') == std::string::npos) continue;
    CHECK(pwrite(fd, piece.data(), piece.size(), at) == static_cast<ssize_t>(piece.size()));
  }
  close(fd);
}

std::shared_ptr<storage::MemoryStorage> LoadFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  struct stat status;
  CHECK(fstat(fd, &status) == 0);
  auto contents = std::make_shared<storage::MemoryStorage>(status.st_size);
  std::vector<std::byte> piece(kPieceBytes);
  for (uint64_t at = 0; at < static_cast<uint64_t>(status.st_size); at += kPieceBytes) {
    const ssize_t count = pread(fd, piece.data(), piece.size(), at);
    CHECK(count > 0);
    if (std::all_of(piece.begin(), piece.begin() + count,
                    [](std::byte byte) { return byte == std::byte{0}; })) {
      continue;
    }
    CHECK(contents->Write(at, storage::ConstBytes(piece).subspan(0, count), {}).ok());
  }
  close(fd);
  return contents;
}

StorageDaemon::StorageDaemon(const std::string& image_path, bool read_only) {
  int input[2];
  int output[2];
  CHECK(pipe2(input, O_CLOEXEC) == 0 && pipe2(output, O_CLOEXEC) == 0);
  signal(SIGPIPE, SIG_IGN);
  pid_ =
      Start({"qemu-storage-daemon", "--chardev", "stdio,id=stdio", "--monitor", "chardev=stdio",
             "--blockdev", absl::StrCat("file,node-name=file0,filename=", image_path), "--blockdev",
             absl::StrCat("qcow2,node-name=node0,file=file0,read-only=", read_only ? "on" : "off")},
            input[0], output[1]);
  close(input[0]);
  close(output[1]);
  to_ = input[1];
  from_ = output[0];
  Call(R"({"execute":"qmp_capabilities"})");
}

StorageDaemon::~StorageDaemon() { Kill(); }

std::string StorageDaemon::ReadLine() {
  for (;;) {
    const size_t end = read_.find('\n');
    if (end != std::string::npos) {
      const std::string line = read_.substr(0, end);
      read_.erase(0, end + 1);
      return line;
    }
    char buffer[4096];
    const ssize_t count = read(from_, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return "";
    read_.append(buffer, count);
  }
}

std::string StorageDaemon::Call(absl::string_view json) {
  const std::string line = absl::StrCat(json, "\n");
  if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) return "";
  for (;;) {
    const std::string answer = ReadLine();
    if (answer.empty() || answer.rfind("{\"return\"", 0) == 0 ||
        answer.rfind("{\"error\"", 0) == 0) {
      return answer;
    }
  }
}

std::string StorageDaemon::BitmapDigest(absl::string_view name) {
  const std::string answer = Call(absl::StrCat(
      R"({"execute":"x-debug-block-dirty-bitmap-sha256","arguments":{"node":"node0","name":")",
      name, R"("}})"));
  constexpr absl::string_view kBefore = R"("sha256": ")";
  const size_t found = answer.find(kBefore.data(), 0, kBefore.size());
  return found == std::string::npos ? answer : answer.substr(found + kBefore.size(), 64);
}

void StorageDaemon::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  ExitCode(pid_);
  close(to_);
  close(from_);
  pid_ = -1;
}

void StorageDaemon::Quit() {
  Call(R"({"execute":"quit"})");
  while (!ReadLine().empty()) {
  }
  ExitCode(pid_);
  close(to_);
  close(from_);
  pid_ = -1;
}

}  // namespace tidemark::qcow2
