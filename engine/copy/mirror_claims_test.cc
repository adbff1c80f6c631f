#include "engine/copy/mirror_claims.h"

#include <memory>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using ::testing::Optional;

constexpr uint64_t kGranule = 4096;

Range Granules(uint64_t first, uint64_t count) { return {first * kGranule, count * kGranule}; }

class MirrorClaimsTest : public ::testing::Test {
 protected:
  static bool Never() { return false; }
  static bool Always() { return true; }

  const std::shared_ptr<bitmap::DirtyBitmap> dirty_ =
      std::make_shared<bitmap::DirtyBitmap>(16 * kGranule + 100, kGranule);
  MirrorClaims claims_{dirty_};
};

TEST_F(MirrorClaimsTest, WhatIsDirtyIsClaimedOnceAndCopied) {
  dirty_->Set(Granules(2, 3));
  EXPECT_FALSE(claims_.is_in_sync());
  const absl::optional<Range> claimed = claims_.Claim(0, 100 * kGranule);
  ASSERT_THAT(claimed, Optional(Granules(2, 3)));
  EXPECT_TRUE(claims_.IsEmpty());
  EXPECT_FALSE(claims_.is_in_sync());
  claims_.Written(*claimed);
  EXPECT_TRUE(claims_.is_in_sync());
  EXPECT_EQ(claims_.progress(), (Progress{3 * kGranule, 3 * kGranule}));
}

TEST_F(MirrorClaimsTest, WhatChangesOnItsWayIsClaimedOnlyWhenItHasArrived) {
  dirty_->Set(Granules(2, 3));
  const absl::optional<Range> claimed = claims_.Claim(0, 100 * kGranule);
  dirty_->Set(Granules(4, 2));
  // The older one must not come last.
  const absl::optional<Range> beside = claims_.Claim(0, 100 * kGranule);
  ASSERT_THAT(beside, Optional(Granules(5, 1)));
  EXPECT_TRUE(claims_.IsEmpty());
  claims_.Written(*claimed);
  EXPECT_THAT(claims_.Claim(0, 100 * kGranule), Optional(Granules(4, 1)));
}

TEST_F(MirrorClaimsTest, AClaimEndsWhereAnotherIsOnItsWay) {
  dirty_->Set(Granules(4, 1));
  ASSERT_TRUE(claims_.Claim(0, kGranule).has_value());
  dirty_->Set(Granules(2, 5));
  EXPECT_THAT(claims_.Claim(0, 100 * kGranule), Optional(Granules(2, 2)));
  EXPECT_THAT(claims_.Claim(0, 100 * kGranule), Optional(Granules(5, 2)));
}

TEST_F(MirrorClaimsTest, TheTailOfTheDiskCountsAsLongAsItIs) {
  dirty_->SetAll();
  EXPECT_EQ(claims_.progress(), (Progress{0, 16 * kGranule + 100}));
  const absl::optional<Range> claimed = claims_.Claim(0, 100 * kGranule);
  ASSERT_THAT(claimed, Optional(Range{0, 16 * kGranule + 100}));
  EXPECT_EQ(claims_.progress(), (Progress{0, 16 * kGranule + 100}));
  claims_.Written(*claimed);
  EXPECT_EQ(claims_.progress(), (Progress{16 * kGranule + 100, 16 * kGranule + 100}));
}

TEST_F(MirrorClaimsTest, WhatCouldNotBeCopiedIsToBeCopiedAgain) {
  dirty_->Set(Granules(2, 1));
  claims_.Unclaim(*claims_.Claim(0, kGranule));
  EXPECT_THAT(claims_.Claim(0, kGranule), Optional(Granules(2, 1)));
}

TEST_F(MirrorClaimsTest, AChangeThatWentThroughLeavesNothingToCopy) {
  const auto turn = claims_.BeginTurn({kGranule + 10, 20}, Never);
  ASSERT_TRUE(turn.has_value());
  dirty_->Set({kGranule + 10, 20});
  EXPECT_TRUE(claims_.IsEmpty());  // Nobody but the guest may copy it.
  claims_.EndTurn(*turn, /*in_target=*/true);
  EXPECT_TRUE(claims_.is_in_sync());
}

TEST_F(MirrorClaimsTest, APartOfWhatWasToBeCopiedLeavesTheRestToCopy) {
  dirty_->Set(Granules(1, 3));
  const auto turn = claims_.BeginTurn({kGranule + 10, 2 * kGranule}, Never);
  ASSERT_TRUE(turn.has_value());
  claims_.EndTurn(*turn, /*in_target=*/true);
  // The middle one was written as a whole.
  EXPECT_TRUE(dirty_->IsDirty(kGranule));
  EXPECT_FALSE(dirty_->IsDirty(2 * kGranule));
  EXPECT_TRUE(dirty_->IsDirty(3 * kGranule));
}

TEST_F(MirrorClaimsTest, AChangeThatDidNotReachTheTargetStaysToBeCopied) {
  const auto turn = claims_.BeginTurn(Granules(1, 1), Never);
  dirty_->Set(Granules(1, 1));
  claims_.EndTurn(*turn, /*in_target=*/false);
  EXPECT_THAT(claims_.Claim(0, kGranule), Optional(Granules(1, 1)));
}

TEST_F(MirrorClaimsTest, AChangeBehindDuringATurnStaysToBeCopied) {
  const auto turn = claims_.BeginTurn({0, 512}, Never);
  dirty_->Set({0, 512});
  dirty_->Set({1024, 512});  // By another, who has no turn.
  claims_.ChangedBehind({1024, 512});
  claims_.EndTurn(*turn, /*in_target=*/true);
  EXPECT_TRUE(dirty_->IsDirty(0));
}

TEST_F(MirrorClaimsTest, AChangeBehindThatIsToldAfterTheTurnIsMarkedAgain) {
  const auto turn = claims_.BeginTurn({0, 512}, Never);
  dirty_->Set({0, 1536});
  claims_.EndTurn(*turn, /*in_target=*/true);
  EXPECT_FALSE(dirty_->IsDirty(0));
  claims_.ChangedBehind({1024, 512});
  EXPECT_TRUE(dirty_->IsDirty(0));
}

TEST_F(MirrorClaimsTest, BothEndsOfAChangeAreLookedAtAndNothingBetween) {
  dirty_->Set(Granules(1, 1));
  dirty_->Set(Granules(3, 1));
  dirty_->Set(Granules(5, 1));
  const auto turn = claims_.BeginTurn(Range::FromTo(kGranule + 512, 5 * kGranule + 512), Never);
  claims_.EndTurn(*turn, /*in_target=*/true);
  EXPECT_TRUE(dirty_->IsDirty(kGranule));
  EXPECT_FALSE(dirty_->IsDirty(3 * kGranule));
  EXPECT_TRUE(dirty_->IsDirty(5 * kGranule));
  // All within one that is equal, and within one that is not.
  claims_.EndTurn(*claims_.BeginTurn({8 * kGranule + 8, 8}, Never), /*in_target=*/true);
  EXPECT_FALSE(dirty_->IsDirty(8 * kGranule));
  claims_.EndTurn(*claims_.BeginTurn({5 * kGranule + 8, 8}, Never), /*in_target=*/true);
  EXPECT_TRUE(dirty_->IsDirty(5 * kGranule));
}

TEST_F(MirrorClaimsTest, ATurnWaitsForWhatIsOnItsWay) {
  dirty_->Set(Granules(1, 1));
  const absl::optional<Range> claimed = claims_.Claim(0, kGranule);
  EXPECT_FALSE(claims_.BeginTurn(Granules(1, 1), Always).has_value());
  std::thread guest([&] {
    const auto turn = claims_.BeginTurn({kGranule, 512}, Never);
    ASSERT_TRUE(turn.has_value());
    claims_.EndTurn(*turn, /*in_target=*/true);
  });
  claims_.Written(*claimed);
  guest.join();
  EXPECT_TRUE(claims_.is_in_sync());
}

TEST_F(MirrorClaimsTest, NobodyWaitsOnceItIsGivenUp) {
  dirty_->Set(Granules(1, 1));
  ASSERT_TRUE(claims_.Claim(0, kGranule).has_value());
  std::thread guest([&] { EXPECT_FALSE(claims_.BeginTurn(Granules(1, 1), Never).has_value()); });
  claims_.Open();
  guest.join();
}

}  // namespace
}  // namespace tidemark::copy
