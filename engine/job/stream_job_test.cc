#include "engine/job/stream_job.h"

#include <memory>
#include <string>
#include <utility>

#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kSize = 64 * kCluster;
constexpr uint64_t kUnlimited = ~uint64_t{0};

std::shared_ptr<qcow2::Image> NewImage(std::shared_ptr<storage::Storage> backing) {
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(qcow2::Create(*file, {.size_bytes = kSize}), absl::OkStatus());
  std::shared_ptr<qcow2::Image> image = *qcow2::Image::Open(file, {});
  image->SetBacking(std::move(backing));
  return image;
}

// bottom <- middle <- top, each with a cluster of its own, and one that all have.
class StreamJobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    bottom_ = NewImage(nullptr);
    Fill(*bottom_, 1, 'b');
    Fill(*bottom_, 9, 'b');
    middle_ = NewImage(std::make_shared<FailingStorage>(bottom_));
    failing_ = std::static_pointer_cast<FailingStorage>(middle_->backing());
    Fill(*middle_, 2, 'm');
    Fill(*middle_, 9, 'm');
    EXPECT_EQ(middle_->WriteZeroes({5 * kCluster, kCluster}), absl::OkStatus());
    Fill(*bottom_, 5, 'b');
    top_ = NewImage(middle_);
    Fill(*top_, 3, 't');
    Fill(*top_, 9, 't');
  }

  static void Fill(storage::Storage& disk, uint64_t cluster, char byte) {
    const std::string data(kCluster, byte);
    EXPECT_EQ(disk.Write(cluster * kCluster,
                         {reinterpret_cast<const std::byte*>(data.data()), data.size()}),
              absl::OkStatus());
  }
  // The next reading below `middle_`.
  void FailOnce() {
    failing_->AddRule({.status = absl::InternalError("bad sector"),
                       .verb = storage::Verb::kRead,
                       .fail_count = 1});
  }
  static char ByteAt(storage::Storage& disk, uint64_t cluster) {
    std::byte byte{'?'};
    EXPECT_EQ(disk.Read(cluster * kCluster, {&byte, 1}), absl::OkStatus());
    return static_cast<char>(byte);
  }
  int DepthAt(uint64_t cluster) { return top_->Map({cluster * kCluster, kCluster})->depth; }

  absl::StatusOr<std::unique_ptr<StreamJob>> Make(int layer_count, bool skips_failed = false) {
    return StreamJob::Make({.job_id = "stream0",
                            .node = "top",
                            .disk = top_,
                            .layer_count = layer_count,
                            .is_whole_chain = layer_count == 2,
                            .skips_failed = skips_failed,
                            .clock = &clock_},
                           {});
  }
  // Steps until the job is done, fails, or tells of an error.
  static absl::StatusOr<StepResult> Run(StreamJob& job) {
    for (;;) {
      absl::StatusOr<StepResult> result = job.Step(kUnlimited);
      if (!result.ok() || result->io_error.has_value() || result->next == StepResult::Next::kDone) {
        return result;
      }
    }
  }

  ManualClock clock_;
  std::shared_ptr<qcow2::Image> bottom_;
  std::shared_ptr<qcow2::Image> middle_;
  std::shared_ptr<FailingStorage> failing_;
  std::shared_ptr<qcow2::Image> top_;
};

TEST_F(StreamJobTest, TheWholeChainIsCopiedUpAndNothingReadsOtherwise) {
  const auto job = *Make(2);
  const auto result = Run(*job);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_EQ(result->next, StepResult::Next::kDone);
  for (const uint64_t cluster : {1, 2, 3, 9}) EXPECT_EQ(DepthAt(cluster), 1) << cluster;
  EXPECT_EQ(job->progress(), (Progress{kSize, kSize}));
  // Alone it shows the same; what was zero needed no copy.
  top_->SetBacking(nullptr);
  EXPECT_EQ(ByteAt(*top_, 1), 'b');
  EXPECT_EQ(ByteAt(*top_, 2), 'm');
  EXPECT_EQ(ByteAt(*top_, 3), 't');
  EXPECT_EQ(ByteAt(*top_, 5), '\0');
  EXPECT_EQ(ByteAt(*top_, 9), 't');
  EXPECT_EQ(DepthAt(7), 0);
}

TEST_F(StreamJobTest, WhatIsBelowTheLayersStaysThere) {
  const auto job = *Make(1);
  ASSERT_EQ(Run(*job).status(), absl::OkStatus());
  EXPECT_EQ(DepthAt(1), 3);
  EXPECT_EQ(DepthAt(2), 1);
  // Zeroes that hide what is below.
  EXPECT_EQ(DepthAt(5), 1);
  top_->SetBacking(bottom_);
  EXPECT_EQ(ByteAt(*top_, 1), 'b');
  EXPECT_EQ(ByteAt(*top_, 2), 'm');
  EXPECT_EQ(ByteAt(*top_, 5), '\0');
}

TEST_F(StreamJobTest, NothingToCopyIsDoneAtOnce) {
  const auto job = *Make(0);
  EXPECT_EQ(job->progress(), Progress{});
  ASSERT_EQ(Run(*job).status(), absl::OkStatus());
  EXPECT_EQ(job->progress(), Progress{});
  EXPECT_EQ(DepthAt(2), 2);
}

TEST_F(StreamJobTest, ADiskThatCannotTellWhatItHoldsIsRefused) {
  const auto job = StreamJob::Make({.job_id = "stream0",
                                    .node = "raw",
                                    .disk = std::make_shared<MemoryStorage>(kSize),
                                    .layer_count = 1,
                                    .clock = &clock_},
                                   {});
  EXPECT_TRUE(HasReason(job.status(), Reason::kNodeLacksFeature)) << job.status();
}

TEST_F(StreamJobTest, WhatFailsIsToldAndTriedAgain) {
  const auto job = *Make(2);
  FailOnce();
  const auto told = Run(*job);
  ASSERT_EQ(told.status(), absl::OkStatus());
  ASSERT_TRUE(told->io_error.has_value());
  EXPECT_TRUE(told->io_error->is_read);
  const auto result = Run(*job);
  ASSERT_EQ(result.status(), absl::OkStatus());
  EXPECT_EQ(DepthAt(1), 1);
}

TEST_F(StreamJobTest, WhatIsIgnoredIsLeftOutAndFailsTheJobInTheEnd) {
  const auto job = *Make(2, /*skips_failed=*/true);
  FailOnce();
  const auto told = Run(*job);
  ASSERT_TRUE(told.ok() && told->io_error.has_value()) << told.status();
  const auto result = Run(*job);
  EXPECT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("bad sector"), std::string::npos) << result.status();
}

}  // namespace
}  // namespace tidemark::job
