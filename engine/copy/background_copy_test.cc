// The background path by itself, over claims that are not those of a backup: a list of clusters,
// and what became of each.
#include "engine/copy/background_copy.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/copy/copier_world.h"
#include "engine/copy/copy_claims.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kClusterCount = 40;

// What a mirror might have: no guests to keep away, no old data. Knows the order in which things
// must be told, and expects it.
class ListClaims final : public CopyClaims {
 public:
  enum class State { kOther, kToCopy, kClaimed, kSettled, kReleased, kWritten, kSkipped, kLost };

  ListClaims() : states_(kClusterCount, State::kOther) {}

  void Add(uint64_t cluster) { states_[cluster] = State::kToCopy; }
  // When what was read of it is settled, it is somebody else's.
  void TakeAway(uint64_t cluster) { taken_.insert(cluster); }
  void Open() { open_ = true; }

  std::vector<uint64_t> In(State state) const {
    MutexLock lock(&mutex_);
    std::vector<uint64_t> clusters;
    for (uint64_t at = 0; at < kClusterCount; ++at) {
      if (states_[at] == state) clusters.push_back(at);
    }
    return clusters;
  }
  State Of(uint64_t cluster) const {
    MutexLock lock(&mutex_);
    return states_[cluster];
  }

  uint64_t size_bytes() const override { return kClusterCount * kCluster; }
  bool IsEmpty() const override { return In(State::kToCopy).empty(); }
  bool is_open() const override { return open_; }

  absl::optional<Range> Claim(uint64_t from_bytes, uint64_t length_bytes_max) override {
    MutexLock lock(&mutex_);
    uint64_t begin = from_bytes / kCluster;
    while (begin < kClusterCount && states_[begin] != State::kToCopy) ++begin;
    if (begin == kClusterCount) return absl::nullopt;
    const uint64_t count_max = std::max<uint64_t>(1, length_bytes_max / kCluster);
    uint64_t end = begin;
    for (; end < kClusterCount && end - begin < count_max && states_[end] == State::kToCopy;
         ++end) {
      states_[end] = State::kClaimed;
    }
    return Clusters(begin, end - begin);
  }

  std::vector<Range> Settle(Range range) override {
    std::vector<Range> own;
    ForEach(range, [&](uint64_t cluster) {
      if (taken_.contains(cluster)) {
        Move(cluster, {State::kClaimed}, State::kOther);
        return;
      }
      Move(cluster, {State::kClaimed}, State::kSettled);
      const Range here = Clusters(cluster, 1);
      if (!own.empty() && own.back().end_bytes() == here.offset_bytes) {
        own.back().length_bytes += kCluster;
      } else {
        own.push_back(here);
      }
    });
    return own;
  }
  void Release(Range range) override { MoveAll(range, {State::kSettled}, State::kReleased); }
  void Written(Range range) override {
    MoveAll(range, {State::kSettled, State::kReleased}, State::kWritten);
  }
  void Skip(Range range) override { MoveAll(range, {State::kSettled}, State::kSkipped); }
  void Unclaim(Range range) override { MoveAll(range, {State::kSettled}, State::kToCopy); }
  void Lose(Range range) override { MoveAll(range, {State::kReleased}, State::kLost); }

 private:
  template <typename Verb>
  void ForEach(Range range, const Verb& verb) {
    EXPECT_EQ(range.offset_bytes % kCluster, 0u);
    EXPECT_EQ(range.length_bytes % kCluster, 0u);
    MutexLock lock(&mutex_);
    for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kCluster) {
      verb(at / kCluster);
    }
  }
  void MoveAll(Range range, const std::vector<State>& from, State to) {
    ForEach(range, [&](uint64_t cluster) { Move(cluster, from, to); });
  }
  void Move(uint64_t cluster, const std::vector<State>& from, State to) {
    EXPECT_THAT(from, ::testing::Contains(states_[cluster])) << "cluster " << cluster;
    states_[cluster] = to;
  }

  std::set<uint64_t> taken_;
  bool open_ = false;
  mutable Mutex mutex_;
  std::vector<State> states_;
};

using State = ListClaims::State;

class BackgroundCopyTest : public ::testing::Test {
 protected:
  void MakeCopy() {
    source_ = std::make_shared<FailingStorage>(memory_);
    target_ = std::make_shared<FailingStorage>(target_memory_);
    copy_ = std::make_unique<BackgroundCopy>(source_, target_, options_, &claims_, LaneWorkers{},
                                             /*memory=*/nullptr);
  }
  // Until all is done, or something fails.
  absl::optional<IoError> Run() {
    for (int i = 0; i < 1000; ++i) {
      const BackgroundCopy::Moved moved = copy_->Move(kUnlimited, /*share=*/false);
      begun_bytes_ += moved.begun_bytes;
      if (moved.io_error.has_value()) return moved.io_error;
      if (moved.idle) return absl::nullopt;
    }
    ADD_FAILURE() << "the copy goes on for ever";
    return absl::nullopt;
  }
  // The target holds the source's data in just these clusters, and is as it was elsewhere.
  void ExpectCopied(const std::vector<uint64_t>& clusters) {
    std::string expected = target_before_;
    for (const uint64_t cluster : clusters) {
      expected.replace(cluster * kCluster, kCluster, before_, cluster * kCluster, kCluster);
    }
    EXPECT_TRUE(target_memory_->Contents() == expected);
  }

  const std::string before_ = Pattern(kClusterCount * kCluster, 1);
  const std::string target_before_ = Pattern(kClusterCount * kCluster, 2);
  std::shared_ptr<MemoryStorage> memory_ = MemoryStorage::Of(before_);
  std::shared_ptr<MemoryStorage> target_memory_ = MemoryStorage::Of(target_before_);
  std::shared_ptr<FailingStorage> source_;
  std::shared_ptr<FailingStorage> target_;
  CopyOptions options_;
  ListClaims claims_;
  std::unique_ptr<BackgroundCopy> copy_;
  uint64_t begun_bytes_ = 0;
};

TEST_F(BackgroundCopyTest, CopiesWhatItsClaimsSayAndNothingElse) {
  for (const uint64_t cluster : {3, 4, 5, 17, 39}) claims_.Add(cluster);
  MakeCopy();
  EXPECT_FALSE(Run().has_value());
  EXPECT_THAT(claims_.In(State::kWritten), ElementsAre(3, 4, 5, 17, 39));
  EXPECT_EQ(begun_bytes_, 5 * kCluster);
  ExpectCopied({3, 4, 5, 17, 39});
}

TEST_F(BackgroundCopyTest, WhatIsAddedOnTheWayIsCopiedToo) {
  claims_.Add(30);
  MakeCopy();
  EXPECT_FALSE(Run().has_value());
  // Behind where it was, and what it has copied before.
  claims_.Add(2);
  claims_.Add(30);
  ASSERT_TRUE(memory_->Write(30 * kCluster, AsBytes(before_.substr(0, kCluster)), {}).ok());
  EXPECT_FALSE(Run().has_value());
  EXPECT_THAT(claims_.In(State::kWritten), ElementsAre(2, 30));
  EXPECT_TRUE(target_memory_->Contents(Clusters(30, 1)) == before_.substr(0, kCluster));
}

TEST_F(BackgroundCopyTest, WhatIsTakenFromItOnTheWayIsForgotten) {
  for (uint64_t cluster = 10; cluster < 20; ++cluster) claims_.Add(cluster);
  for (const uint64_t cluster : {10, 13, 14, 19}) claims_.TakeAway(cluster);
  MakeCopy();
  EXPECT_FALSE(Run().has_value());
  EXPECT_THAT(claims_.In(State::kWritten), ElementsAre(11, 12, 15, 16, 17, 18));
  ExpectCopied({11, 12, 15, 16, 17, 18});
}

TEST_F(BackgroundCopyTest, SoAreZeroesThatAreTakenFromIt) {
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(10, 10), {}).ok());
  for (uint64_t cluster = 10; cluster < 20; ++cluster) claims_.Add(cluster);
  for (const uint64_t cluster : {10, 13, 14, 19}) claims_.TakeAway(cluster);
  MakeCopy();
  EXPECT_FALSE(Run().has_value());
  EXPECT_THAT(claims_.In(State::kWritten), ElementsAre(11, 12, 15, 16, 17, 18));
  const std::string zeroes(kCluster, '\0');
  for (uint64_t cluster = 10; cluster < 20; ++cluster) {
    EXPECT_EQ(target_memory_->Contents(Clusters(cluster, 1)) == zeroes,
              claims_.Of(cluster) == State::kWritten)
        << "cluster " << cluster;
  }
}

TEST_F(BackgroundCopyTest, WhatCannotBeReadIsGivenBackAndTriedAgain) {
  for (const uint64_t cluster : {3, 4, 5}) claims_.Add(cluster);
  MakeCopy();
  source_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kRead, .fail_count = 1});
  const absl::optional<IoError> error = Run();
  ASSERT_TRUE(error.has_value());
  EXPECT_TRUE(error->is_read);
  EXPECT_THAT(claims_.In(State::kToCopy), ElementsAre(3, 4, 5));
  EXPECT_FALSE(Run().has_value());
  ExpectCopied({3, 4, 5});
}

TEST_F(BackgroundCopyTest, WhatCannotBeWrittenIsKeptUntilItIsDropped) {
  for (const uint64_t cluster : {3, 4, 5}) claims_.Add(cluster);
  MakeCopy();
  target_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kWrite});
  const absl::optional<IoError> error = Run();
  ASSERT_TRUE(error.has_value());
  EXPECT_FALSE(error->is_read);
  EXPECT_THAT(claims_.In(State::kReleased), ElementsAre(3, 4, 5));
  copy_->Drop();
  EXPECT_THAT(claims_.In(State::kLost), ElementsAre(3, 4, 5));
  ExpectCopied({});
}

// Says that a cluster is held by the layer below.
class LayeredStorage final : public storage::ForwardingStorage {
 public:
  LayeredStorage(std::shared_ptr<storage::Storage> next, uint64_t cluster_below)
      : ForwardingStorage(std::move(next)), below_(Clusters(cluster_below, 1)) {}
  absl::StatusOr<storage::Extent> Map(Range range) override {
    if (range.offset_bytes < below_.offset_bytes) {
      range = Range::FromTo(range.offset_bytes, std::min(range.end_bytes(), below_.offset_bytes));
    } else if (range.offset_bytes < below_.end_bytes()) {
      range = Range::FromTo(range.offset_bytes, std::min(range.end_bytes(), below_.end_bytes()));
    }
    storage::Extent extent{range};
    if (range.Overlaps(below_)) extent.depth = 2;
    return extent;
  }

 private:
  const Range below_;
};

TEST_F(BackgroundCopyTest, WhatTheTopLayerDoesNotHoldIsSkipped) {
  options_.only_top_layer = true;
  for (const uint64_t cluster : {3, 4, 5}) claims_.Add(cluster);
  MakeCopy();
  copy_ = std::make_unique<BackgroundCopy>(std::make_shared<LayeredStorage>(memory_, 4), target_,
                                           options_, &claims_, LaneWorkers{}, nullptr);
  while (!copy_->Walk().idle) {
  }
  EXPECT_THAT(claims_.In(State::kSkipped), ElementsAre(4));
  EXPECT_THAT(claims_.In(State::kToCopy), ElementsAre(3, 5));
  EXPECT_FALSE(Run().has_value());
  ExpectCopied({3, 5});
}

TEST_F(BackgroundCopyTest, ACopyThatWasGivenUpClaimsNothing) {
  for (const uint64_t cluster : {3, 4, 5}) claims_.Add(cluster);
  MakeCopy();
  claims_.Open();
  EXPECT_EQ(copy_->Move(kUnlimited, /*share=*/false).begun_bytes, 0u);
  EXPECT_THAT(claims_.In(State::kToCopy), ElementsAre(3, 4, 5));
  ExpectCopied({});
}

}  // namespace
}  // namespace tidemark::copy
