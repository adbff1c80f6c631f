#include "engine/base/range.h"

#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

TEST(Range, FitsInIsSafeForEveryValue) {
  EXPECT_TRUE((Range{0, 0}.FitsIn(0)));
  EXPECT_TRUE((Range{10, 0}.FitsIn(10)));
  EXPECT_TRUE((Range{0, 10}.FitsIn(10)));
  EXPECT_FALSE((Range{1, 10}.FitsIn(10)));
  EXPECT_FALSE((Range{11, 0}.FitsIn(10)));
  EXPECT_FALSE((Range{8, kMax}.FitsIn(kMax)));
  EXPECT_FALSE((Range{kMax, kMax}.FitsIn(kMax)));
  EXPECT_TRUE((Range{0, kMax}.FitsIn(kMax)));
}

TEST(Range, AgreesWithSetsOfBytesInASmallWorld) {
  constexpr uint64_t kWorld = 9;
  for (uint64_t a = 0; a < kWorld; ++a) {
    for (uint64_t n = 0; n + a <= kWorld; ++n) {
      const Range left{a, n};
      for (uint64_t b = 0; b < kWorld; ++b) {
        EXPECT_EQ(left.Contains(b), b >= a && b < a + n);
        for (uint64_t m = 0; m + b <= kWorld; ++m) {
          const Range right{b, m};
          uint64_t common = 0;
          for (uint64_t byte = 0; byte < kWorld; ++byte) {
            if (left.Contains(byte) && right.Contains(byte)) ++common;
          }
          EXPECT_EQ(left.Overlaps(right), common > 0) << left << right;
          EXPECT_EQ(left.Intersect(right).length_bytes, common) << left << right;
        }
      }
    }
  }
}

TEST(Range, FromToOfCrossedEndsIsEmpty) {
  EXPECT_TRUE(Range::FromTo(5, 3).empty());
  EXPECT_EQ(Range::FromTo(3, 5), (Range{3, 2}));
}

TEST(Range, AlignedOutIsTheSmallestCover) {
  EXPECT_EQ((Range{1, 1}.AlignedOut(512)), (Range{0, 512}));
  EXPECT_EQ((Range{511, 2}.AlignedOut(512)), (Range{0, 1024}));
  EXPECT_EQ((Range{512, 512}.AlignedOut(512)), (Range{512, 512}));
  EXPECT_EQ((Range{7, 9}.AlignedOut(1)), (Range{7, 9}));
}

TEST(Range, PrintsHalfOpen) { EXPECT_EQ((Range{3, 4}.ToString()), "[3, 7)"); }

}  // namespace
}  // namespace tidemark
