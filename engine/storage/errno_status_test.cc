#include "engine/storage/errno_status.h"

#include <cerrno>

#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

TEST(ErrnoStatus, SaysWhatWasAttemptedAndWhyItFailed) {
  const absl::Status status = ErrnoStatus(ENOENT, "cannot open image \"/a\"");
  EXPECT_EQ(status.message(), "cannot open image \"/a\": No such file or directory");
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kFileNotFound);
}

TEST(ErrnoStatus, EveryErrnoHasAReason) {
  EXPECT_EQ(DetailsOf(ErrnoStatus(ENOSPC, "x"))->reason, Reason::kNoSpace);
  EXPECT_EQ(DetailsOf(ErrnoStatus(EACCES, "x"))->reason, Reason::kFileAccessDenied);
  EXPECT_EQ(DetailsOf(ErrnoStatus(EROFS, "x"))->reason, Reason::kFileAccessDenied);
  EXPECT_EQ(DetailsOf(ErrnoStatus(EOPNOTSUPP, "x"))->reason, Reason::kFeatureUnsupported);
  for (int errno_value = 1; errno_value < 140; ++errno_value) {
    EXPECT_TRUE(DetailsOf(ErrnoStatus(errno_value, "x")).has_value());
  }
}

TEST(ErrnoOf, GoesTheWayBack) {
  EXPECT_EQ(ErrnoOf(absl::OkStatus()), 0);
  for (int errno_value : {EIO, ENOSPC, EPERM, EOPNOTSUPP}) {
    EXPECT_EQ(ErrnoOf(ErrnoStatus(errno_value, "x")), errno_value);
  }
  EXPECT_EQ(ErrnoOf(Error(Reason::kNodeReadOnly, "x")), EROFS);
  EXPECT_EQ(ErrnoOf(Error(Reason::kLimitReached, "x")), EIO);
  EXPECT_EQ(ErrnoOf(Error(Reason::kImageCorrupt, "x")), EIO);
  EXPECT_EQ(ErrnoOf(PastEndError("x", {1, 2}, 1)), EINVAL);
  EXPECT_EQ(ErrnoOf(absl::UnknownError("x")), EIO);
}

TEST(ErrnoOf, SurvivesAnnotations) {
  EXPECT_EQ(ErrnoOf(Annotate(ErrnoStatus(ENOSPC, "x"), "node target0")), ENOSPC);
}

TEST(PastEndError, NamesTheObjectAndTheNumbers) {
  const absl::Status status = PastEndError("disk \"d\"", {100, 20}, 110);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(status.message(),
            "range of 20 bytes at 100 reaches past the end of disk \"d\" (110 bytes)");
}

}  // namespace
}  // namespace tidemark::storage
