#include "engine/job/backup_options.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

constexpr SyncMode kSyncModes[] = {SyncMode::kFull, SyncMode::kTop, SyncMode::kNone,
                                   SyncMode::kIncremental, SyncMode::kBitmap};
constexpr BitmapMode kBitmapModes[] = {BitmapMode::kOnSuccess, BitmapMode::kAlways,
                                       BitmapMode::kNever};

bool IsAccepted(SyncMode sync, const std::string& bitmap, absl::optional<BitmapMode> mode) {
  BackupOptions options{.job_id = "j", .sync = sync, .bitmap = bitmap, .bitmap_mode = mode};
  const absl::Status status = ValidateBitmapChoice(&options);
  if (!status.ok()) {
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kInvalidField);
    EXPECT_NE(status.message().find("'j'"), absl::string_view::npos);
  }
  return status.ok();
}

TEST(BackupOptions, EveryChoiceOfBitmapAndModeIsAsDrawn) {
  // Columns: on-success, always, never, no mode.
  const char* const kPicture[] = {
      /* full        */ "yy..", /* top         */ "yy..",
      /* none        */ "....",
      /* incremental */ "y..y", /* bitmap      */ "yyy.",
  };
  for (int sync = 0; sync < 5; ++sync) {
    for (int mode = 0; mode < 3; ++mode) {
      EXPECT_EQ(IsAccepted(kSyncModes[sync], "b", kBitmapModes[mode]), kPicture[sync][mode] == 'y')
          << sync << " " << mode;
      EXPECT_FALSE(IsAccepted(kSyncModes[sync], "", kBitmapModes[mode])) << sync << " " << mode;
    }
    EXPECT_EQ(IsAccepted(kSyncModes[sync], "b", absl::nullopt), kPicture[sync][3] == 'y') << sync;
    const bool needs_bitmap =
        kSyncModes[sync] == SyncMode::kIncremental || kSyncModes[sync] == SyncMode::kBitmap;
    EXPECT_EQ(IsAccepted(kSyncModes[sync], "", absl::nullopt), !needs_bitmap) << sync;
  }
}

TEST(BackupOptions, IncrementalImpliesOnSuccess) {
  BackupOptions options{.job_id = "j", .sync = SyncMode::kIncremental, .bitmap = "b"};
  ASSERT_TRUE(ValidateBitmapChoice(&options).ok());
  EXPECT_EQ(options.bitmap_mode, BitmapMode::kOnSuccess);
}

TEST(BackupOptions, PerformanceLimitsNameTheValue) {
  const auto check = [](absl::optional<int64_t> workers, absl::optional<int64_t> chunk) {
    const BackupOptions options{.job_id = "j", .max_workers = workers, .max_chunk_bytes = chunk};
    return ValidatePerformance(options, 65536);
  };
  EXPECT_TRUE(check(absl::nullopt, absl::nullopt).ok());
  EXPECT_TRUE(check(1, 0).ok());
  EXPECT_TRUE(check(2147483647, 65536).ok());
  for (const int64_t workers : {int64_t{0}, int64_t{-1}, int64_t{2147483648}}) {
    const absl::Status status = check(workers, absl::nullopt);
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kInvalidField);
    EXPECT_NE(status.message().find(absl::StrCat(workers)), absl::string_view::npos);
  }
  for (const int64_t chunk : {100, 65535, -1}) {
    const absl::Status status = check(absl::nullopt, chunk);
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kInvalidField);
    EXPECT_NE(status.message().find(absl::StrCat(chunk)), absl::string_view::npos);
  }
}

TEST(BackupOptions, WhatBecomesOfTheBitmapIsAsInTheTable) {
  EXPECT_EQ(ResultFor(BitmapMode::kOnSuccess, true), BitmapResult::kWrites);
  EXPECT_EQ(ResultFor(BitmapMode::kOnSuccess, false), BitmapResult::kStartAndWrites);
  EXPECT_EQ(ResultFor(BitmapMode::kAlways, true), BitmapResult::kWrites);
  EXPECT_EQ(ResultFor(BitmapMode::kAlways, false), BitmapResult::kNotCopiedAndWrites);
  EXPECT_EQ(ResultFor(BitmapMode::kNever, true), BitmapResult::kStartAndWrites);
  EXPECT_EQ(ResultFor(BitmapMode::kNever, false), BitmapResult::kStartAndWrites);
}

}  // namespace
}  // namespace tidemark::job
