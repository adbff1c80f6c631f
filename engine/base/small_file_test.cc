#include "engine/base/small_file.h"

#include <fstream>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

std::string FileOf(const std::string& text) {
  const std::string path = testing::TempDir() + "/small_file";
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(SmallFile, IsReadWithAllItsBytes) {
  const std::string text("a\0\r\nb", 5);
  EXPECT_EQ(*ReadSmallFile(FileOf(text), 100), text);
  EXPECT_EQ(*ReadSmallFile(FileOf(""), 100), "");
}

TEST(SmallFile, MayHoldExactlyTheMost) { EXPECT_EQ(*ReadSmallFile(FileOf("12345"), 5), "12345"); }

TEST(SmallFile, ThatIsLargerIsRefusedByNameAndSize) {
  const std::string path = FileOf("123456");
  const absl::Status status = ReadSmallFile(path, 5).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "'" + path + "' is larger than 5 bytes");
}

TEST(SmallFile, ThatIsMissingOrAFolderCannotBeRead) {
  for (const std::string& path : {testing::TempDir() + "/no_such_file", testing::TempDir()}) {
    const absl::Status status = ReadSmallFile(path, 5).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << path;
    EXPECT_EQ(status.message(), "Cannot read '" + path + "'");
  }
}

}  // namespace
}  // namespace tidemark
