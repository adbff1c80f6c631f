// What placed writes leave behind that come to nothing.

#include <memory>
#include <string>
#include <vector>

#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/io_queue.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kCluster = 65536;

storage::Bytes AsBytes(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

// Moves the bytes of a placement as a copy does; the first error.
absl::Status MoveAll(const storage::Placement& placement, char filler) {
  std::string text(placement.pieces().back().range.end_bytes(), filler);
  const auto queue = storage::MakeIoQueue(4);
  for (const auto& piece : placement.pieces()) {
    queue->Submit({storage::IoQueue::Operation::kWrite, piece.target, piece.target_offset_bytes,
                   AsBytes(text).data(), piece.range.length_bytes});
  }
  std::vector<storage::IoQueue::Completion> completions;
  while (queue->in_flight() > 0) queue->Reap(absl::InfiniteDuration(), &completions);
  absl::Status status;
  for (const auto& completion : completions) status.Update(completion.status);
  return status;
}

class Placing : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = storage::TestPath("placing.qcow2");
    ASSERT_EQ(storage::CreateFile(path, 0, storage::Preallocation::kOff), absl::OkStatus());
    file_ = *storage::OpenFile(path, {});
    CreateOptions options;
    options.size_bytes = 64 * kCluster;
    ASSERT_EQ(Create(*file_, options), absl::OkStatus());
  }
  std::unique_ptr<Image> Open(std::shared_ptr<storage::Storage> file) {
    auto image = Image::Open(std::move(file), {});
    EXPECT_EQ(image.status(), absl::OkStatus());
    return *std::move(image);
  }
  static std::string Read(Image& image, Range range) {
    std::string text(range.length_bytes, '?');
    EXPECT_EQ(image.Read(range.offset_bytes, AsBytes(text)), absl::OkStatus());
    return text;
  }

  std::shared_ptr<storage::FileStorage> file_;
};

// The file stays open as a node of its own, and another format is put on it.
TEST_F(Placing, BytesOfAnAbandonedWriteDoNotShowInAnImageOpenedOverTheSameFile) {
  auto image = Open(file_);
  {
    const auto placement = *image->PlaceWrite({0, 8 * kCluster});
    ASSERT_NE(placement, nullptr);
    ASSERT_EQ(MoveAll(*placement, 'p'), absl::OkStatus());
  }
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image = Open(file_);
  std::string few(512, 'f');
  for (uint64_t cluster = 0; cluster < 8; ++cluster) {
    ASSERT_EQ(image->Write(cluster * kCluster + 4096, AsBytes(few)), absl::OkStatus());
  }
  for (uint64_t cluster = 0; cluster < 8; ++cluster) {
    const std::string text = Read(*image, {cluster * kCluster, kCluster});
    EXPECT_EQ(text.find('p'), std::string::npos) << cluster;
    EXPECT_EQ(text.substr(4096, 512), few);
  }
}

// A placed write of which a part fails is seen, and leaves the disk as it was.
TEST_F(Placing, AFileThatFailsAPlacedWriteFailsIt) {
  const auto failing = std::make_shared<storage::FailingStorage>(file_);
  const auto image = Open(failing);
  const auto placement = *image->PlaceWrite({0, 2 * kCluster});
  ASSERT_NE(placement, nullptr);
  const absl::Status error = absl::DataLossError("broken");
  failing->AddRule({.status = error, .verb = storage::Verb::kWrite});
  EXPECT_EQ(MoveAll(*placement, 'p'), error);
  EXPECT_GT(failing->failure_count(), 0);
  failing->ClearRules();
  EXPECT_TRUE(Read(*image, {0, 2 * kCluster}) == std::string(2 * kCluster, '\0'));
}

}  // namespace
}  // namespace tidemark::qcow2
