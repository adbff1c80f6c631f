// FileStorage over a real block device: a loop device made for the test. Needs root and losetup.
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/ascii.h"
#include "engine/base/error.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/file_storage.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

// Tests do not have it in their PATH.
constexpr char kLosetup[] = "/usr/sbin/losetup";
constexpr uint64_t kSizeBytes = 16 * 1024 * 1024;

class BlockDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || !HaveTool(kLosetup)) GTEST_SKIP() << "needs root and losetup";
    const std::string backing = TestPath("backing.img");
    ASSERT_EQ(CreateFile(backing, kSizeBytes, Preallocation::kOff), absl::OkStatus());
    const ToolResult made = RunTool({kLosetup, "--find", "--show", backing});
    if (made.exit_code != 0) GTEST_SKIP() << "no loop device: " << made.output;
    device_ = std::string(absl::StripAsciiWhitespace(made.output));
    struct stat info;
    if (stat(device_.c_str(), &info) != 0) GTEST_SKIP() << device_ << " is not visible here";
  }
  void TearDown() override {
    if (!device_.empty()) RunTool({kLosetup, "--detach", device_});
  }

  std::shared_ptr<FileStorage> Open(FileOptions options = {}) {
    const auto file = OpenFile(device_, options);
    EXPECT_EQ(file.status(), absl::OkStatus());
    return file.ok() ? *file : nullptr;
  }

  static absl::Status Fill(Storage& disk, Range range, char byte) {
    const std::string data(range.length_bytes, byte);
    return disk.Write(range.offset_bytes,
                      ConstBytes(reinterpret_cast<const std::byte*>(data.data()), data.size()));
  }
  static std::string ReadBack(Storage& disk, Range range) {
    std::string text(range.length_bytes, '?');
    EXPECT_EQ(disk.Read(range.offset_bytes,
                        Bytes(reinterpret_cast<std::byte*>(text.data()), text.size())),
              absl::OkStatus());
    return text;
  }

  std::string device_;
};

TEST_F(BlockDeviceTest, HasTheSizeOfTheDeviceAndCannotGrow) {
  const auto file = Open();
  EXPECT_TRUE(file->is_block_device());
  EXPECT_EQ(file->size_bytes(), kSizeBytes);
  EXPECT_EQ(DetailsOf(Fill(*file, {kSizeBytes, 512}, 'x'))->reason, Reason::kNoSpace);
  EXPECT_EQ(file->Resize(kSizeBytes), absl::OkStatus());
  EXPECT_EQ(DetailsOf(file->Resize(2 * kSizeBytes))->reason, Reason::kFeatureUnsupported);
  EXPECT_EQ(file->PlaceWrite({kSizeBytes, 512}).status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(file->size_bytes(), kSizeBytes);
}

TEST_F(BlockDeviceTest, ADeviceThatWasExtendedIsTakenOver) {
  const auto file = Open();
  ASSERT_EQ(truncate(TestPath("backing.img").c_str(), 2 * kSizeBytes), 0);
  ASSERT_EQ(RunTool({kLosetup, "--set-capacity", device_}).exit_code, 0);
  EXPECT_EQ(file->size_bytes(), kSizeBytes);
  EXPECT_EQ(DetailsOf(file->Resize(3 * kSizeBytes))->reason, Reason::kFeatureUnsupported);
  EXPECT_EQ(file->size_bytes(), kSizeBytes);
  ASSERT_EQ(file->Resize(2 * kSizeBytes), absl::OkStatus());
  EXPECT_EQ(file->size_bytes(), 2 * kSizeBytes);
  EXPECT_EQ(Fill(*file, {kSizeBytes, 512}, 'x'), absl::OkStatus());
  EXPECT_EQ(ReadBack(*file, {kSizeBytes, 512}), std::string(512, 'x'));
}

TEST_F(BlockDeviceTest, ZeroesWholeSectorsAndParts) {
  for (const bool discards : {false, true}) {
    for (const bool may_unmap : {false, true}) {
      const auto file = Open({.discard_unmaps = discards});
      ASSERT_EQ(Fill(*file, {0, 65536}, 'd'), absl::OkStatus());
      ASSERT_EQ(file->WriteZeroes({4096, 8192}, {.may_unmap = may_unmap}), absl::OkStatus());
      ASSERT_EQ(file->WriteZeroes({20000, 777}, {.may_unmap = may_unmap}), absl::OkStatus());
      std::string expected(65536, 'd');
      expected.replace(4096, 8192, 8192, '\0');
      expected.replace(20000, 777, 777, '\0');
      EXPECT_TRUE(ReadBack(*file, {0, 65536}) == expected);
    }
  }
}

TEST_F(BlockDeviceTest, DiscardsAndMapsAsData) {
  const auto file = Open({.discard_unmaps = true});
  ASSERT_EQ(Fill(*file, {0, 65536}, 'd'), absl::OkStatus());
  ASSERT_EQ(file->Flush(), absl::OkStatus());
  EXPECT_EQ(file->Discard({0, 32768}), absl::OkStatus());
  EXPECT_EQ(file->Discard({1, 700}), absl::OkStatus());
  EXPECT_EQ(ReadBack(*file, {32768, 32768}), std::string(32768, 'd'));
  EXPECT_EQ(file->Map({0, kSizeBytes})->content, Extent::Content::kData);
}

TEST_F(BlockDeviceTest, IsNotForCreatingFilesIn) {
  EXPECT_EQ(DetailsOf(CreateFile(device_, 4096, Preallocation::kOff))->reason,
            Reason::kFeatureUnsupported);
}

TEST_F(BlockDeviceTest, WorksDirectly) {
  const auto file = Open({.direct = true});
  ASSERT_EQ(Fill(*file, {100, 20000}, 'd'), absl::OkStatus());
  EXPECT_EQ(ReadBack(*file, {99, 20002}), '\0' + std::string(20000, 'd') + '\0');
}

}  // namespace
}  // namespace tidemark::storage
