#include "engine/base/error.h"

#include <cctype>
#include <set>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

const Reason kAllReasons[] = {
#define TIDEMARK_ROW(enumerator, name, code, qmp_class) Reason::k##enumerator,
    TIDEMARK_REASONS(TIDEMARK_ROW)
#undef TIDEMARK_ROW
};

TEST(Error, CarriesReasonAndMetadata) {
  const absl::Status status =
      Error(Reason::kNodeNotFound, "no node \"drive0\"", {{"node", "drive0"}, {"empty", ""}});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no node \"drive0\"");
  const absl::Status copy = status;
  const absl::optional<ErrorDetails> details = DetailsOf(copy);
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, Reason::kNodeNotFound);
  ASSERT_EQ(details->metadata.size(), 2u);
  EXPECT_EQ(details->metadata[0], std::make_pair(std::string("node"), std::string("drive0")));
  EXPECT_EQ(details->metadata[1], std::make_pair(std::string("empty"), std::string()));
}

TEST(Error, ValuesWithNulDoNotBreakTheDetails) {
  const absl::string_view hostile("a\0node\0b", 8);
  const auto details =
      DetailsOf(Error(Reason::kNodeNotFound, "m", {{"node", hostile}, {"x", "y"}}));
  ASSERT_EQ(details->metadata.size(), 2u);
  EXPECT_EQ(details->metadata[0].second, "a?node?b");
  EXPECT_EQ(details->metadata[1].second, "y");
}

TEST(Error, OtherStatusesHaveNoDetails) {
  EXPECT_FALSE(DetailsOf(absl::OkStatus()).has_value());
  EXPECT_FALSE(DetailsOf(absl::InternalError("x")).has_value());
}

TEST(Error, EveryReasonSurvivesTheWayThroughAStatus) {
  for (Reason reason : kAllReasons) {
    const absl::Status status = Error(reason, "m");
    EXPECT_EQ(status.code(), CodeOf(reason)) << NameOf(reason);
    EXPECT_NE(status.code(), absl::StatusCode::kOk) << NameOf(reason);
    EXPECT_EQ(DetailsOf(status)->reason, reason) << NameOf(reason);
    EXPECT_FALSE(QmpClassOf(reason).empty()) << NameOf(reason);
  }
}

TEST(Error, NamesAreInUpperSnakeCase) {
  for (Reason reason : kAllReasons) {
    for (char c : NameOf(reason)) EXPECT_TRUE(std::isupper(c) || c == '_') << NameOf(reason);
  }
  EXPECT_EQ(NameOf(Reason::kBitmapInconsistent), "BITMAP_INCONSISTENT");
}

TEST(Error, BlockJobsThatAreNotThereHaveTheirOwnClassInQmp) {
  EXPECT_EQ(QmpClassOf(Reason::kBlockJobNotFound), "DeviceNotActive");
  EXPECT_EQ(QmpClassOf(Reason::kJobNotFound), "GenericError");
}

TEST(Annotate, PutsTheNounInFrontAndKeepsTheDetails) {
  const absl::Status status =
      Annotate(Error(Reason::kNoSpace, "full", {{"filename", "f"}}), "job job0");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "job job0: full");
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kNoSpace);
  EXPECT_EQ(DetailsOf(status)->metadata.at(0).second, "f");
  EXPECT_EQ(Annotate(absl::OkStatus(), "job job0"), absl::OkStatus());
}

}  // namespace
}  // namespace tidemark
