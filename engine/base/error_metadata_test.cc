#include "engine/base/error_metadata.h"

#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(WithMetadata, AddsToTheDetailsAndKeepsTheRest) {
  const absl::Status status =
      WithMetadata(Error(Reason::kNoSpace, "full", {{"filename", "f"}}), "field", "actions[2]");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "full");
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kNoSpace);
  ASSERT_EQ(DetailsOf(status)->metadata.size(), 2u);
  EXPECT_EQ(DetailsOf(status)->metadata[0].second, "f");
  EXPECT_EQ(DetailsOf(status)->metadata[1].first, "field");
  EXPECT_EQ(DetailsOf(status)->metadata[1].second, "actions[2]");
}

TEST(WithMetadata, LeavesAStatusWithoutDetailsAlone) {
  EXPECT_EQ(WithMetadata(absl::OkStatus(), "field", "f"), absl::OkStatus());
  EXPECT_EQ(WithMetadata(absl::UnknownError("u"), "field", "f"), absl::UnknownError("u"));
}

TEST(MetadataOf, FindsTheFirstValueUnderAKey) {
  const absl::Status status =
      Error(Reason::kNoSpace, "full", {{"filename", "f"}, {"field", "a"}, {"field", "b"}});
  EXPECT_EQ(MetadataOf(status, "field"), "a");
  EXPECT_EQ(MetadataOf(status, "filename"), "f");
}

TEST(MetadataOf, IsEmptyWhereThereIsNone) {
  EXPECT_EQ(MetadataOf(absl::OkStatus(), "field"), "");
  EXPECT_EQ(MetadataOf(absl::UnknownError("u"), "field"), "");
  EXPECT_EQ(MetadataOf(Error(Reason::kNoSpace, "full", {{"filename", "f"}}), "field"), "");
}

}  // namespace
}  // namespace tidemark
