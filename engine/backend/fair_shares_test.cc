#include "engine/backend/fair_shares.h"

#include <map>
#include <set>

#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

TEST(FairShares, TheOldestOfWhoHasMostGoes) {
  FairShares shares(4, 1'000);
  shares.Add("a", 1, 10);
  for (uint64_t number = 2; number < 6; ++number) shares.Add("b", number, 10);
  ASSERT_TRUE(shares.is_too_much());
  const FairShares::Item item = shares.TakeOldest();
  EXPECT_EQ(item.owner, "b");
  EXPECT_EQ(item.number, 2u);
  EXPECT_EQ(item.bytes, 10u);
  EXPECT_FALSE(shares.is_too_much());
  EXPECT_EQ(shares.newest("b"), 5u);
  EXPECT_EQ(shares.newest("nobody"), 0u);
}

TEST(FairShares, BytesCountToo) {
  FairShares shares(100, 1'000);
  for (uint64_t number = 1; number < 10; ++number) shares.Add("many", number, 1);
  shares.Add("large", 10, 900);
  shares.Add("large", 11, 900);
  ASSERT_TRUE(shares.is_too_much());
  EXPECT_EQ(shares.TakeOldest().owner, "large");
}

TEST(FairShares, OneThatIsLargerThanAllStays) {
  FairShares shares(4, 10);
  shares.Add("a", 1, 100);
  EXPECT_FALSE(shares.is_too_much());
  EXPECT_EQ(shares.count(), 1u);
}

TEST(FairShares, WhatIsTakenOutIsNotCounted) {
  FairShares shares(1, 1'000);
  shares.Add("a", 1, 10);
  shares.Add("a", 2, 10);
  shares.Remove("a", 1);
  shares.Remove("a", 7);
  shares.Remove("b", 1);
  EXPECT_FALSE(shares.is_too_much());
  EXPECT_EQ(shares.bytes(), 10u);
  EXPECT_EQ(shares.TakeOldest().number, 2u);
}

// Against a model: whoever goes is never one of the less.
TEST(FairShares, EveryoneKeepsAnEqualShareOfAFullHouse) {
  constexpr size_t kMax = 100;
  FairShares shares(kMax, kMax);
  std::map<std::string, std::set<uint64_t>> model;
  uint64_t random = 7;
  for (uint64_t number = 1; number < 5'000; ++number) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    // One of the four makes most of the noise.
    const std::string owner =
        (random >> 33) % 8 == 0 ? std::string(1, 'a' + (random >> 40) % 3) : "z";
    shares.Add(owner, number, 0);
    model[owner].insert(number);
    while (shares.is_too_much()) {
      const FairShares::Item item = shares.TakeOldest();
      for (const auto& [other, items] : model) EXPECT_GE(model[item.owner].size(), items.size());
      EXPECT_EQ(item.number, *model[item.owner].begin());
      model[item.owner].erase(item.number);
    }
  }
  EXPECT_EQ(shares.count(), kMax);
  for (const char* quiet : {"a", "b", "c"}) EXPECT_GE(model[quiet].size(), kMax / 4 - 1) << quiet;
}

}  // namespace
}  // namespace tidemark::backend
