#include "engine/storage/transfer.h"

#include <cerrno>
#include <string>

#include "engine/storage/limits.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

struct Reading {
  std::string text = std::string(2048, '?');
  Moved moved;

  Progress After(int64_t result) {
    return AfterRead(result, Bytes(reinterpret_cast<std::byte*>(text.data()), text.size()), &moved);
  }
};

TEST(AfterRead, GoesOnAfterShortReadsAndInterruptions) {
  Reading reading;
  EXPECT_EQ(reading.After(-EINTR), Progress::kAgain);
  EXPECT_EQ(reading.After(-EAGAIN), Progress::kAgain);
  EXPECT_EQ(reading.After(1000), Progress::kAgain);
  EXPECT_EQ(reading.moved.done_bytes, 1000u);
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
  Moved moved;
  EXPECT_EQ(AfterWrite(-EINTR, 100, &moved), Progress::kAgain);
  EXPECT_EQ(AfterWrite(60, 100, &moved), Progress::kAgain);
  EXPECT_EQ(AfterWrite(0, 100, &moved), Progress::kFailed);
  EXPECT_EQ(AfterWrite(-ENOSPC, 100, &moved), Progress::kFailed);
  EXPECT_EQ(moved.done_bytes, 60u);
  EXPECT_EQ(AfterWrite(40, 100, &moved), Progress::kFinished);
}

TEST(AfterRead, FailsWhatIsPutOffForEver) {
  for (const int error : {EINTR, EAGAIN}) {
    Reading reading;
    int count = 1;
    while (count <= 2 * kIdleTransfersMax && reading.After(-error) == Progress::kAgain) ++count;
    EXPECT_EQ(count, kIdleTransfersMax + 1);
    Moved moved;
    count = 1;
    while (count <= 2 * kIdleTransfersMax && AfterWrite(-error, 9, &moved) == Progress::kAgain) {
      ++count;
    }
    EXPECT_EQ(count, kIdleTransfersMax + 1);
  }
}

TEST(AfterRead, PatienceBeginsAnewWithEveryByte) {
  Reading reading;
  for (int i = 0; i < kIdleTransfersMax; ++i) EXPECT_EQ(reading.After(-EAGAIN), Progress::kAgain);
  EXPECT_EQ(reading.After(1), Progress::kAgain);
  for (int i = 0; i < kIdleTransfersMax; ++i) EXPECT_EQ(reading.After(-EAGAIN), Progress::kAgain);
  EXPECT_EQ(reading.After(2047), Progress::kFinished);
}

}  // namespace
}  // namespace tidemark::storage
