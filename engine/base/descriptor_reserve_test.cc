#include "engine/base/descriptor_reserve.h"

#include <sys/resource.h>

#include "absl/strings/match.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

void SetLimit(uint64_t limit) {
  rlimit limits = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limits), 0);
  limits.rlim_cur = limit;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limits), 0);
}

TEST(DescriptorReserve, TheLastOnesAreKept) {
  SetLimit(1000);
  EXPECT_EQ(CheckDescriptorReserve(935, "cannot open \"a\""), absl::OkStatus());
  const absl::Status refused = CheckDescriptorReserve(936, "cannot open \"a\"");
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "cannot open \"a\"")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "1000")) << refused;
}

TEST(DescriptorReserve, OfFewNotAllAreKept) {
  SetLimit(40);
  EXPECT_EQ(CheckDescriptorReserve(29, "cannot open \"a\""), absl::OkStatus());
  EXPECT_FALSE(CheckDescriptorReserve(30, "cannot open \"a\"").ok());
}

}  // namespace
}  // namespace tidemark
