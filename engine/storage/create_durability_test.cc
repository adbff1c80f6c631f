// That what was created is still there after a loss of power: seen by what is flushed.
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

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

}  // namespace
}  // namespace tidemark::storage
