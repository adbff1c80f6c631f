// That what was created is still there after a loss of power: seen by what is flushed.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/file_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {

// The names of what was flushed, in order.
std::vector<std::string>& Flushed() {
  static std::vector<std::string> names;
  return names;
}

}  // namespace

// In place of the C library's.
extern "C" int fsync(int fd) {
  Flushed().push_back(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd)));
  return static_cast<int>(syscall(SYS_fsync, fd));
}

namespace tidemark::storage {
namespace {

TEST(CreateFile, TheNameIsAsDurableAsTheFile) {
  const std::filesystem::path folder = std::filesystem::canonical(TestPath(""));
  Flushed().clear();
  ASSERT_EQ(CreateFile(folder / "made", 4096, Preallocation::kOff), absl::OkStatus());
  EXPECT_THAT(Flushed(), testing::ElementsAre(folder / "made", folder));
}

TEST(CreateFile, AFolderThatCannotBeFlushedIsTold) {
  const std::string path = TestPath("made");
  ASSERT_EQ(CreateFile(path, 4096, Preallocation::kOff), absl::OkStatus());
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // No further descriptor.
  const rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = SyncFolderOf(fd, path);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  close(fd);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(path), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace tidemark::storage
