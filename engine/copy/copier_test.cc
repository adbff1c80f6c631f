// What is copied, and what is not. copier_stress_test.cc has the many threads.
#include "engine/copy/copier.h"

#include <memory>
#include <set>
#include <string>

#include "engine/copy/copier_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

// ---- What is copied

TEST_F(CopierTest, CopiesTheWholeDiskAndFlushesItOnce) {
  MakeDisks(100);
  MakeCopy();
  EXPECT_EQ(copy_->progress(), (Progress{0, 100 * kCluster}));
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(copy_->progress(), (Progress{100 * kCluster, 100 * kCluster}));
  EXPECT_EQ(target_->flush_count, 1);
  EXPECT_EQ(source_->read_bytes, before_.size());
  EXPECT_TRUE(copy_->not_copied().IsEmpty());
}

TEST_F(CopierTest, APartialLastClusterIsCopiedAndCountedAsItIs) {
  MakeDisks(3, 512);
  MakeCopy();
  EXPECT_EQ(copy_->progress().total_bytes, 3 * kCluster + 512);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(copy_->progress().current_bytes, 3 * kCluster + 512);
}

TEST_F(CopierTest, ADiskSmallerThanAClusterIsCopied) {
  MakeDisks(0, 512);
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, NothingToCopyIsDoneWithNoWork) {
  MakeDisks(10);
  to_copy_->ClearAll();
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(copy_->progress(), (Progress{0, 0}));
  EXPECT_EQ(target_->written_bytes, 0u);
}

TEST_F(CopierTest, OnlyDirtyClustersAreCopied) {
  MakeDisks(10);
  to_copy_->ClearAll();
  to_copy_->Set(Clusters(3, 2));
  to_copy_->Set(Clusters(9, 1));
  MakeCopy();
  EXPECT_EQ(copy_->progress().total_bytes, 3 * kCluster);
  RunToEnd();
  EXPECT_EQ(target_->written_bytes, 3 * kCluster);
  std::string expected(before_.size(), '\0');
  expected.replace(3 * kCluster, 2 * kCluster, before_, 3 * kCluster, 2 * kCluster);
  expected.replace(9 * kCluster, kCluster, before_, 9 * kCluster, kCluster);
  EXPECT_EQ(target_memory_->Contents(), expected);
}

TEST_F(CopierTest, ZeroesAreNeitherReadNorWrittenAsData) {
  MakeDisks(10);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(2, 5), {}).ok());
  before_ = memory_->Contents();
  ASSERT_TRUE(target_memory_->Write(0, AsBytes(Pattern(10 * kCluster, 9)), {}).ok());
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(source_->read_bytes, 5 * kCluster);
  EXPECT_EQ(target_->written_bytes, 5 * kCluster);
  EXPECT_EQ(target_->zeroed_bytes, 5 * kCluster);
}

TEST_F(CopierTest, AZeroTargetIsNotZeroedAgain) {
  MakeDisks(10);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(2, 5), {}).ok());
  before_ = memory_->Contents();
  options_.target_is_zero = true;
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->zeroed_bytes, 0u);
  EXPECT_EQ(copy_->progress(), (Progress{10 * kCluster, 10 * kCluster}));
}

TEST_F(CopierTest, ZeroesInDataAreFoundIfAskedFor) {
  MakeDisks(4);
  const std::string zeroes(2 * kCluster, '\0');
  // Written as data where they are, among other data.
  ASSERT_TRUE(memory_->Write(kCluster + 1, AsBytes(Pattern(1, 3)), {}).ok());
  before_ = Pattern(kCluster, 4) + zeroes + Pattern(kCluster, 5);
  memory_ = MemoryStorage::Of(before_);
  // A disk that does not know of its zeroes.
  class Opaque final : public storage::ForwardingStorage {
   public:
    using ForwardingStorage::ForwardingStorage;
    absl::StatusOr<storage::Extent> Map(Range range) override {
      return storage::Extent{.range = range};
    }
  };
  source_ = std::make_shared<CountingStorage>(std::make_shared<Opaque>(memory_));
  options_.detect_zeroes = true;
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->written_bytes, 2 * kCluster);
  EXPECT_EQ(target_->zeroed_bytes, 2 * kCluster);
}

TEST_F(CopierTest, CompressionIsAskedForEveryCluster) {
  MakeDisks(10);
  options_.compress = true;
  MakeCopy();
  GuestWrites(Clusters(3, 1), 7);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->compressed_bytes, 10 * kCluster);
}

// As a qcow2 image: what is stored compressed cannot be stored so again.
class StoresOnce final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  storage::Limits limits() const override {
    storage::Limits limits = ForwardingStorage::limits();
    limits.cluster_size_bytes = kCluster / 4;
    return limits;
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    if (stored_.contains(offset_bytes)) return absl::UnknownError("allocated already");
    absl::Status status = ForwardingStorage::Write(offset_bytes, data, options);
    if (status.ok()) stored_.insert(offset_bytes);
    return status;
  }

 private:
  std::set<uint64_t> stored_;
};

TEST_F(CopierTest, ACompressedWriteThatFailsHalfwayGoesOnWhereItFailed) {
  MakeDisks(4, 512);
  options_.compress = true;
  target_ = std::make_shared<CountingStorage>(std::make_shared<StoresOnce>(bad_target_));
  bad_target_->AddRule({.status = absl::ResourceExhaustedError("full"),
                        .verb = Verb::kWrite,
                        .pass_count = 6,
                        .fail_count = 1});
  MakeCopy();
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result.ok() && result->io_error.has_value());
  EXPECT_EQ(result->io_error->status.message(), "full");
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, OnlyTheTopLayerIsCopiedIfAskedFor) {
  MakeDisks(600);
  // The even tens of clusters belong to the top.
  class Layered final : public storage::ForwardingStorage {
   public:
    using ForwardingStorage::ForwardingStorage;
    absl::StatusOr<storage::Extent> Map(Range range) override {
      const uint64_t ten = range.offset_bytes / (10 * kCluster);
      const Range whole = Clusters(ten * 10, 10);
      return storage::Extent{.range = range.Intersect(whole), .depth = ten % 2 == 0 ? 1 : 2};
    }
  };
  source_ = std::make_shared<CountingStorage>(std::make_shared<Layered>(memory_));
  options_.only_top_layer = true;
  MakeCopy();
  // A guest writes to the top before the walk has been there, and to what lies below.
  GuestWrites(Clusters(25, 1), 8);
  GuestWrites(Clusters(35, 1), 8);
  RunToEnd();
  std::string expected = before_;
  for (uint64_t ten = 1; ten < 60; ten += 2) {
    expected.replace(ten * 10 * kCluster, 10 * kCluster, 10 * kCluster, '\0');
  }
  EXPECT_EQ(target_memory_->Contents(), expected);
  EXPECT_EQ(copy_->progress(), (Progress{300 * kCluster, 300 * kCluster}));
}

TEST_F(CopierTest, TheCopyUnitIsTheTargetsClusterButAtLeast64KiB) {
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 0}), 64u << 10);
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 512}), 64u << 10);
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 1 << 20}), 1u << 20);
}

TEST_F(CopierTest, ABudgetBeginsOneChunkAtLeastAndLeavesNothingInFlight) {
  MakeDisks(100);
  MakeCopy();
  const absl::StatusOr<StepResult> result = copy_->Step(1);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->moved_bytes, 1u << 20);
  EXPECT_EQ(copy_->progress().current_bytes, 1u << 20);
}

TEST_F(CopierTest, WhatIsGivenBackIsCopiedBehindAPartialLastCluster) {
  // The chunk that wraps around has room for a part of a cluster only, after its last whole one.
  MakeDisks(17, 512);
  bad_source_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kRead, .fail_count = 1});
  MakeCopy();
  const absl::StatusOr<StepResult> result = copy_->Step(1);
  ASSERT_TRUE(result.ok() && result->io_error.has_value());
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

}  // namespace
}  // namespace tidemark::copy
