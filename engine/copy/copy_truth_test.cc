#include "engine/copy/copy_truth.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kCluster = 64 * 1024;

Range Clusters(uint64_t first, uint64_t count) { return {first * kCluster, count * kCluster}; }

class CopyTruthTest : public ::testing::Test {
 protected:
  CopyTruthTest() {
    auto to_copy = std::make_unique<bitmap::DirtyBitmap>(100 * kCluster, kCluster);
    to_copy->SetAll();
    truth_ = std::make_unique<CopyTruth>(std::move(to_copy));
  }

  absl::optional<Range> GuestClaims(Range range) {
    return truth_->ClaimOrAwait(range, range.length_bytes, [] {});
  }

  std::unique_ptr<CopyTruth> truth_;
};

TEST_F(CopyTruthTest, WhatNobodyTakesOverIsTheClaimersOwn) {
  EXPECT_EQ(truth_->Claim(0, 16 * kCluster), Clusters(0, 16));
  EXPECT_THAT(truth_->Settle(Clusters(0, 16)), ElementsAre(Clusters(0, 16)));
  // Once.
  EXPECT_THAT(truth_->Settle(Clusters(0, 16)), IsEmpty());
}

TEST_F(CopyTruthTest, AGuestTakesOverWhatTheBackgroundHasClaimed) {
  ASSERT_EQ(truth_->Claim(0, 16 * kCluster), Clusters(0, 16));
  EXPECT_EQ(GuestClaims(Clusters(3, 2)), Clusters(3, 2));
  EXPECT_TRUE(truth_->IsGuarded(Clusters(3, 2)));
  EXPECT_THAT(truth_->Settle(Clusters(0, 16)), ElementsAre(Clusters(0, 3), Clusters(5, 11)));
  truth_->Release(Clusters(3, 2));
  truth_->Written(Clusters(3, 2));
  EXPECT_EQ(truth_->progress().current_bytes, 2 * kCluster);
  EXPECT_EQ(GuestClaims(Clusters(3, 2)), absl::nullopt);
}

TEST_F(CopyTruthTest, WhatIsFreeIsClaimedBeforeWhatTheBackgroundHas) {
  ASSERT_EQ(truth_->Claim(0, 2 * kCluster), Clusters(0, 2));
  EXPECT_EQ(GuestClaims(Clusters(0, 4)), Clusters(2, 2));
  EXPECT_EQ(GuestClaims(Clusters(0, 4)), Clusters(0, 2));
}

TEST_F(CopyTruthTest, WhatIsSettledIsTakenOverByNobody) {
  ASSERT_EQ(truth_->Claim(0, 4 * kCluster), Clusters(0, 4));
  ASSERT_THAT(truth_->Settle(Clusters(0, 4)), ElementsAre(Clusters(0, 4)));
  int looks = 0;
  EXPECT_EQ(truth_->ClaimOrAwait(Clusters(1, 1), kCluster,
                                 [this, &looks] {
                                   if (++looks == 2) truth_->Release(Clusters(0, 4));
                                 }),
            absl::nullopt);
  EXPECT_EQ(looks, 2);
}

TEST_F(CopyTruthTest, OneGuestTakesOverNothingFromAnother) {
  ASSERT_EQ(GuestClaims(Clusters(7, 1)), Clusters(7, 1));
  int looks = 0;
  EXPECT_EQ(truth_->ClaimOrAwait(Clusters(7, 1), kCluster,
                                 [this, &looks] {
                                   if (++looks == 2) truth_->Release(Clusters(7, 1));
                                 }),
            absl::nullopt);
  EXPECT_EQ(looks, 2);
}

TEST_F(CopyTruthTest, WhatHasBeenTakenOverIsNotGivenBackByTheBackground) {
  ASSERT_EQ(truth_->Claim(0, 16 * kCluster), Clusters(0, 16));
  ASSERT_EQ(GuestClaims(Clusters(0, 16)), Clusters(0, 16));
  truth_->Release(Clusters(0, 16));
  for (const Range& own : truth_->Settle(Clusters(0, 16))) truth_->Unclaim(own);
  EXPECT_EQ(truth_->Claim(0, 16 * kCluster), Clusters(16, 16));
}

TEST_F(CopyTruthTest, AGuestThatMeetsNothingGuardedSearchesNoFurtherThanItsRange) {
  ASSERT_EQ(truth_->Claim(0, 4 * kCluster), Clusters(0, 4));
  for (const Range& own : truth_->Settle(Clusters(0, 4))) truth_->Written(own);
  EXPECT_EQ(GuestClaims(Clusters(1, 2)), absl::nullopt);
  // A large range, too, whose beginning is safe.
  EXPECT_EQ(GuestClaims(Clusters(0, 90)), Clusters(4, 86));
}

TEST_F(CopyTruthTest, WhatWasWrittenCanBeLostAgain) {
  ASSERT_EQ(truth_->Claim(0, 4 * kCluster), Clusters(0, 4));
  for (const Range& own : truth_->Settle(Clusters(0, 4))) truth_->Written(own);
  ASSERT_EQ(truth_->Claim(4 * kCluster, kCluster), Clusters(4, 1));
  for (const Range& own : truth_->Settle(Clusters(4, 1))) truth_->Skip(own);
  truth_->LoseWritten();
  EXPECT_EQ(truth_->to_copy().CountBytes(), 99 * kCluster);
  EXPECT_FALSE(truth_->to_copy().IsDirty(4 * kCluster));
}

}  // namespace
}  // namespace tidemark::copy
