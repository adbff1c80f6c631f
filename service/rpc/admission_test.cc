#include "service/rpc/admission.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tidemark::rpc {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// How many `peer` gets, one after the other, of `bytes` each.
std::vector<Admission::Ticket> TakeAll(Admission& admission, absl::string_view peer,
                                       uint64_t bytes) {
  std::vector<Admission::Ticket> tickets;
  for (;;) {
    auto ticket = admission.Enter(peer, bytes);
    if (!ticket.ok()) return tickets;
    tickets.push_back(*std::move(ticket));
  }
}

TEST(Admission, OneClientHasHalfAtMostAndEachOtherHalfOfWhatIsLeft) {
  Admission admission("stream", {100, 100 * kMiB});
  const auto first = TakeAll(admission, "first", 1);
  const auto second = TakeAll(admission, "second", 1);
  EXPECT_EQ(first.size(), 50u);
  EXPECT_EQ(second.size(), 25u);
  EXPECT_FALSE(TakeAll(admission, "third", 1).empty());
}

TEST(Admission, ManyHoardersLeaveSomethingToWhoeverComesNext) {
  Admission admission("stream", {1'000, 1'000 * kMiB});
  std::vector<std::vector<Admission::Ticket>> hoards;
  for (int i = 0; i < 8; ++i) {
    hoards.push_back(TakeAll(admission, absl::StrCat("hoarder", i), kMiB));
    EXPECT_FALSE(hoards.back().empty());
  }
  EXPECT_TRUE(admission.Enter("guest", kMiB).ok());
}

TEST(Admission, MemoryIsSharedLikeTheirNumber) {
  Admission admission("call", {1'000, 64 * kMiB});
  const auto first = TakeAll(admission, "first", 4 * kMiB);
  EXPECT_EQ(first.size(), 8u) << "half";
  EXPECT_EQ(admission.bytes(), 32 * kMiB);
  EXPECT_TRUE(admission.Enter("second", 4 * kMiB).ok());
  const absl::Status refused = admission.Enter("first", 4 * kMiB).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.message(), "4194304")) << refused;
}

TEST(Admission, WhatWasHeldIsFreeAgainWhenATicketGoes) {
  Admission admission("call", {4, 8 * kMiB});
  {
    auto ticket = admission.Enter("a", kMiB);
    ASSERT_TRUE(ticket.ok());
    Admission::Ticket moved = *std::move(ticket);
    ASSERT_TRUE(moved.Grow(kMiB).ok());
    EXPECT_EQ(admission.count(), 1u);
    EXPECT_EQ(admission.bytes(), 2 * kMiB);
  }
  EXPECT_EQ(admission.count(), 0u);
  EXPECT_EQ(admission.bytes(), 0u);
}

TEST(Admission, ARefusedGrowthChangesNothing) {
  Admission admission("call", {100, 8 * kMiB});
  const auto other = admission.Enter("b", kMiB);
  auto ticket = admission.Enter("a", kMiB);
  ASSERT_TRUE(ticket.ok());
  EXPECT_FALSE(ticket->Grow(32 * kMiB).ok());
  EXPECT_EQ(admission.bytes(), 2 * kMiB);
  EXPECT_TRUE(ticket->Grow(kMiB).ok());
}

}  // namespace
}  // namespace tidemark::rpc
