#include "tests/simulation/disk_model.h"

#include <string>

#include "gtest/gtest.h"

namespace tidemark::simulation {
namespace {

constexpr Range kFirst{0, kSectorBytes};
constexpr Range kSecond{kSectorBytes, kSectorBytes};

storage::ConstBytes Bytes(const std::string& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

class DiskModelTest : public testing::Test {
 protected:
  int Write(Range range, Moment from, Moment to, bool well = true) {
    const int request = model_.Begin(DiskModel::Kind::kWrite, range, from);
    model_.End(request, well, to);
    return request;
  }
  std::string Of(int request) { return model_.DataOf(request); }
  const std::string zeroes_ = std::string(kSectorBytes, '\0');
  DiskModel model_{2 * kSectorBytes};
};

TEST_F(DiskModelTest, AReadShowsTheLastWrite) {
  const int first = Write(kFirst, 10, 20);
  EXPECT_EQ(model_.JudgeRead(0, Bytes(Of(first)), 30, 40), "");
  EXPECT_NE(model_.JudgeRead(0, Bytes(zeroes_), 30, 40), "");
  const int second = Write(kFirst, 50, 60);
  EXPECT_EQ(model_.JudgeRead(0, Bytes(Of(second)), 70, 80), "");
  EXPECT_NE(model_.JudgeRead(0, Bytes(Of(first)), 70, 80), "");
}

TEST_F(DiskModelTest, AReadBesideAWriteShowsEither) {
  const int write = Write(kFirst, 10, 20);
  EXPECT_EQ(model_.JudgeRead(0, Bytes(zeroes_), 15, 40), "");
  EXPECT_EQ(model_.JudgeRead(0, Bytes(Of(write)), 15, 40), "");
}

TEST_F(DiskModelTest, AWriteThatFailedShowsOrNot) {
  const int write = Write(kFirst, 10, 20, /*well=*/false);
  EXPECT_EQ(model_.JudgeRead(0, Bytes(zeroes_), 30, 40), "");
  EXPECT_EQ(model_.JudgeRead(0, Bytes(Of(write)), 30, 40), "");
}

TEST_F(DiskModelTest, MarksBelongToTheirSectors) {
  const int write = Write({0, 2 * kSectorBytes}, 10, 20);
  const std::string data = Of(write);
  EXPECT_EQ(model_.JudgeRead(0, Bytes(data), 30, 40), "");
  EXPECT_NE(model_.JudgeRead(0, Bytes(data.substr(kSectorBytes)), 30, 40), "");
  std::string torn = data;
  torn[7] ^= 1;
  EXPECT_NE(model_.JudgeRead(0, Bytes(torn), 30, 40), "");
}

TEST_F(DiskModelTest, AnInstantHoldsWhatCameBeforeWhatItHolds) {
  const int first = Write(kFirst, 10, 20);
  const int second = Write(kSecond, 30, 40);
  EXPECT_EQ(model_.JudgeInstant(Bytes(Of(first) + Of(second)), 5, 50, true), "");
  EXPECT_EQ(model_.JudgeInstant(Bytes(Of(first) + zeroes_), 5, 50, true), "");
  EXPECT_EQ(model_.JudgeInstant(Bytes(zeroes_ + zeroes_), 5, 50, true), "");
  // The second, but not the first, which had ended before.
  EXPECT_NE(model_.JudgeInstant(Bytes(zeroes_ + Of(second)), 5, 50, true), "");
}

TEST_F(DiskModelTest, AnInstantHoldsNoHalfOfARequest) {
  const int write = Write({0, 2 * kSectorBytes}, 10, 20);
  const std::string half = Of(write).substr(0, kSectorBytes) + zeroes_;
  EXPECT_NE(model_.JudgeInstant(Bytes(half), 5, 50, /*gated=*/true), "");
  EXPECT_EQ(model_.JudgeInstant(Bytes(half), 5, 50, /*gated=*/false), "");
  EXPECT_EQ(model_.JudgeInstant(Bytes(half), 5, 50, true, {false, true}), "");
}

TEST_F(DiskModelTest, ACrashLosesOnlyWhatWasNotFlushed) {
  const int first = Write(kFirst, 10, 20);
  EXPECT_EQ(model_.JudgeCrash(Bytes(zeroes_), 30), "");
  model_.NoteFlush(25);
  EXPECT_NE(model_.JudgeCrash(Bytes(zeroes_), 30), "");
  EXPECT_EQ(model_.JudgeCrash(Bytes(Of(first)), 30), "");
  const int second = Write(kFirst, 40, 50);
  EXPECT_EQ(model_.JudgeCrash(Bytes(Of(first)), 60), "");
  EXPECT_EQ(model_.JudgeCrash(Bytes(Of(second)), 60), "");
}

TEST_F(DiskModelTest, AfterARestartWhatWasFoundIsThere) {
  const int write = Write(kFirst, 10, 20);
  model_.Restart(Bytes(Of(write) + zeroes_));
  EXPECT_EQ(model_.JudgeRead(0, Bytes(Of(write)), 30, 40), "");
  EXPECT_NE(model_.JudgeRead(0, Bytes(zeroes_), 30, 40), "");
}

TEST_F(DiskModelTest, OnlyCertainChangesAreChanges) {
  const auto changed = [&](Moment from, Moment to) {
    std::vector<bool> sectors(2);
    model_.AddChanged(from, to, &sectors);
    return sectors;
  };
  Write(kFirst, 10, 20, /*well=*/false);
  EXPECT_EQ(changed(0, kNever), (std::vector<bool>{false, false}));
  Write(kSecond, 30, 40);
  EXPECT_EQ(changed(25, kNever), (std::vector<bool>{false, true}));
  EXPECT_EQ(changed(35, kNever), (std::vector<bool>{false, false}));
  EXPECT_EQ(changed(25, 35), (std::vector<bool>{false, false}));
}

}  // namespace
}  // namespace tidemark::simulation
