#include "engine/format/qcow2/request_epochs.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "engine/base/range.h"
#include "engine/format/qcow2/free_queue.h"
#include "engine/format/qcow2/range_claims.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

TEST(RequestEpochs, ATagIsDrainedWhenAllThatEnteredBeforeHaveLeft) {
  RequestEpochs epochs;
  auto first = std::make_unique<RequestEpochs::Guard>(epochs.Enter());
  const uint64_t tag = epochs.Advance();
  auto second = std::make_unique<RequestEpochs::Guard>(epochs.Enter());
  EXPECT_FALSE(epochs.Drained(tag));
  first.reset();
  EXPECT_TRUE(epochs.Drained(tag));
  const uint64_t later_tag = epochs.Advance();
  EXPECT_FALSE(epochs.Drained(later_tag));
  second.reset();
  EXPECT_TRUE(epochs.Drained(later_tag));
}

TEST(RequestEpochs, ARequestThatStaysForeverHoldsBackOnlyWhatItMayUse) {
  RequestEpochs epochs;
  auto stuck = std::make_unique<RequestEpochs::Guard>(epochs.Enter());
  const uint64_t tag = epochs.Advance();
  for (int i = 0; i < 1000; ++i) {
    const auto guard = epochs.Enter();
    EXPECT_FALSE(epochs.Drained(epochs.Advance()));
  }
  EXPECT_FALSE(epochs.Drained(tag));
  stuck.reset();
  EXPECT_TRUE(epochs.Drained(tag));
  EXPECT_TRUE(epochs.Drained(epochs.Advance()));
}

TEST(FreeQueue, WhatIsTakenBackIsPendingAgain) {
  FreeQueue queue(65536);
  queue.Add({65536, 65536});
  queue.Add({131072, 65536});
  const std::vector<Range> pending = queue.TakePending();
  ASSERT_EQ(pending, (std::vector<Range>{{65536, 131072}}));
  EXPECT_TRUE(queue.empty());
  queue.PutBack(pending);
  EXPECT_EQ(queue.TakePending(), pending);
}

TEST(FreeQueue, PiecesOfOneClusterStayApart) {
  FreeQueue queue(65536);
  queue.Add({65536, 512});
  queue.Add({66048, 512});
  EXPECT_EQ(queue.TakePending().size(), 2u);
}

TEST(FreeQueue, RangesRipenWhenTheirRequestsAreGone) {
  FreeQueue queue(65536);
  RequestEpochs epochs;
  auto guard = std::make_unique<RequestEpochs::Guard>(epochs.Enter());
  queue.Quarantine({{65536, 65536}}, epochs.Advance());
  EXPECT_TRUE(queue.TakeRipe(epochs).empty());
  guard.reset();
  EXPECT_EQ(queue.TakeRipe(epochs).size(), 1u);
  EXPECT_TRUE(queue.empty());
}

TEST(RangeClaims, OverlappingClaimsTakeTurnsAndOthersDoNot) {
  RangeClaims claims;
  auto held = std::make_unique<RangeClaims::Claim>(claims.Acquire({100, 100}));
  const auto beside = claims.Acquire({200, 50});
  const auto before = claims.Acquire({0, 100});
  std::atomic<bool> acquired = false;
  std::thread waiter([&] {
    const auto claim = claims.Acquire({150, 10});
    acquired = true;
  });
  EXPECT_FALSE(acquired);
  held.reset();
  waiter.join();
  EXPECT_TRUE(acquired);
}

// A copy places one stretch after the other, and a guest may want to change two of them at once.
TEST(RangeClaims, WhoHasAClaimTakesTheNextPastThoseWhoWaitForBoth) {
  RangeClaims claims;
  for (int round = 0; round < 100; ++round) {
    RangeClaims::Claim first = claims.Acquire({0, 100});
    std::atomic<bool> asks = false;
    std::thread waiter([&] {
      asks = true;
      claims.Acquire({50, 100});
    });
    while (!asks) std::this_thread::yield();
    // The waiter stands in line by now, in most rounds.
    RangeClaims::Claim second = claims.Acquire({100, 100});
    first = RangeClaims::Claim();
    second = RangeClaims::Claim();
    waiter.join();
  }
}

}  // namespace
}  // namespace tidemark::qcow2
