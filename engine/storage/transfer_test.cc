#include "engine/storage/transfer.h"

#include <cerrno>
#include <string>

#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

struct Reading {
  std::string text = std::string(2048, '?');
  size_t done_bytes = 0;

  Progress After(int64_t result) {
    return AfterRead(result, Bytes(reinterpret_cast<std::byte*>(text.data()), text.size()),
                     &done_bytes);
  }
};

TEST(AfterRead, GoesOnAfterShortReadsAndInterruptions) {
  Reading reading;
  EXPECT_EQ(reading.After(-EINTR), Progress::kAgain);
  EXPECT_EQ(reading.After(-EAGAIN), Progress::kAgain);
  EXPECT_EQ(reading.After(1000), Progress::kAgain);
  EXPECT_EQ(reading.done_bytes, 1000u);
  EXPECT_EQ(reading.After(1048), Progress::kFinished);
  EXPECT_EQ(reading.text, std::string(2048, '?'));
}

TEST(AfterRead, FillsWithZeroesFromTheEndOfTheFile) {
  Reading reading;
  EXPECT_EQ(reading.After(600), Progress::kAgain);
  EXPECT_EQ(reading.After(0), Progress::kFinished);
  EXPECT_EQ(reading.text, std::string(600, '?') + std::string(1448, '\0'));
}

TEST(AfterRead, TakesADirectReadThatCannotGoOnWithinASectorForTheEnd) {
  Reading reading;
  EXPECT_EQ(reading.After(600), Progress::kAgain);
  EXPECT_EQ(reading.After(-EINVAL), Progress::kFinished);
  EXPECT_EQ(reading.text, std::string(600, '?') + std::string(1448, '\0'));
}

TEST(AfterRead, OtherwiseFailsOnErrors) {
  EXPECT_EQ(Reading().After(-EIO), Progress::kFailed);
  EXPECT_EQ(Reading().After(-EINVAL), Progress::kFailed);
  Reading reading;
  EXPECT_EQ(reading.After(512), Progress::kAgain);
  EXPECT_EQ(reading.After(-EINVAL), Progress::kFailed);
}

TEST(AfterWrite, GoesOnUntilAllIsMovedOrNothingMoves) {
  size_t done_bytes = 0;
  EXPECT_EQ(AfterWrite(-EINTR, 100, &done_bytes), Progress::kAgain);
  EXPECT_EQ(AfterWrite(60, 100, &done_bytes), Progress::kAgain);
  EXPECT_EQ(AfterWrite(0, 100, &done_bytes), Progress::kFailed);
  EXPECT_EQ(AfterWrite(-ENOSPC, 100, &done_bytes), Progress::kFailed);
  EXPECT_EQ(done_bytes, 60u);
  EXPECT_EQ(AfterWrite(40, 100, &done_bytes), Progress::kFinished);
}

}  // namespace
}  // namespace tidemark::storage
