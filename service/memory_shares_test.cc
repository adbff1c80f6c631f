#include "service/memory_shares.h"

#include "gtest/gtest.h"

namespace tidemark {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(MemoryShares, TogetherAreNoMoreThanTheWholeAndNoneIsForgotten) {
  for (const uint64_t whole : {kMemoryMaxLeast, 512 * kMiB, 1000 * kMiB + 1}) {
    const MemoryShares shares(whole);
    const uint64_t sum = shares.engine + shares.transport + shares.calls + shares.streams;
    EXPECT_LE(sum, whole);
    EXPECT_GT(sum + 256, whole);
  }
}

TEST(MemoryShares, TheDefaultFollowsTheMachineWithinBounds) {
  EXPECT_EQ(DefaultMemoryMax(4096 * kMiB, ""), 512 * kMiB);
  EXPECT_EQ(DefaultMemoryMax(1024 * kMiB, "max"), 256 * kMiB);
  EXPECT_EQ(DefaultMemoryMax(1024 * 1024 * kMiB, ""), 1024 * kMiB);
}

TEST(MemoryShares, AContainersLimitCountsWhereItIsLower) {
  EXPECT_EQ(DefaultMemoryMax(64 * 1024 * kMiB, "3221225472"), 384 * kMiB);
  EXPECT_EQ(DefaultMemoryMax(4096 * kMiB, "9999999999999"), 512 * kMiB);
}

}  // namespace
}  // namespace tidemark
