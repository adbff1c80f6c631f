#include "tests/guest/records.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

namespace tidemark::guest {
namespace {

constexpr uint64_t kSlots = 16;

// A disk in memory that the guest has written `newest` records on.
class Disk {
 public:
  Disk(int disk, uint64_t newest) : disk_(disk), bytes_(kSlots * kStrideBytes, '\0') {
    for (uint64_t number = 1; number <= newest; ++number) Write(number);
  }
  void Write(uint64_t number) { MakeRecord(disk_, number, At(OffsetOf(number, kSlots))); }
  unsigned char* At(uint64_t offset) {
    return reinterpret_cast<unsigned char*>(bytes_.data()) + offset;
  }
  Contents Examine() {
    return guest::Examine(disk_, kSlots, [this](uint64_t offset, unsigned char* record) {
      memcpy(record, At(offset), kRecordBytes);
      return true;
    });
  }

 private:
  const int disk_;
  std::string bytes_;
};

TEST(Records, EveryRecordOfARoundHasASlotOfItsOwn) {
  for (const uint64_t slots : {uint64_t{1}, kSlots, uint64_t{4096}}) {
    std::set<uint64_t> offsets;
    for (uint64_t number = 100; number < 100 + slots; ++number) {
      offsets.insert(OffsetOf(number, slots));
    }
    EXPECT_EQ(offsets.size(), slots);
    EXPECT_EQ(*offsets.rbegin(), (slots - 1) * kStrideBytes);
  }
  EXPECT_EQ(SlotCount(64 << 20), 1024u);
  EXPECT_EQ(SlotCount((64 << 20) + 5), 1024u);
  EXPECT_EQ(SlotCount((64 << 20) - 1), 512u);
}

TEST(Records, ADiskOfOneMomentIsFoundSoundAtAnyLength) {
  for (uint64_t newest = 0; newest < 3 * kSlots; ++newest) {
    const Contents contents = Disk(0, newest).Examine();
    EXPECT_EQ(contents.newest, newest);
    EXPECT_EQ(contents.fault, "");
  }
}

TEST(Records, AMissingRecordIsFoundOut) {
  for (uint64_t newest = 2; newest < 3 * kSlots; ++newest) {
    Disk disk(1, newest - 2);
    disk.Write(newest);
    EXPECT_NE(disk.Examine().fault, "") << newest;
  }
}

TEST(Records, AChangedByteIsFoundOut) {
  for (const size_t at : {size_t{0}, size_t{16}, kRecordBytes / 2, kRecordBytes - 1}) {
    Disk disk(0, 40);
    disk.At(OffsetOf(33, kSlots))[at] ^= 1;
    EXPECT_NE(disk.Examine().fault, "") << at;
  }
}

TEST(Records, ARecordOfTheOtherDiskIsFoundOut) {
  Disk disk(0, 40);
  MakeRecord(1, 33, disk.At(OffsetOf(33, kSlots)));
  EXPECT_NE(disk.Examine().fault, "");
}

TEST(Records, ADiskThatCannotBeReadIsAFault) {
  EXPECT_NE(Examine(0, kSlots, [](uint64_t, unsigned char*) { return false; }).fault, "");
}

TEST(Records, DisksOfDifferentMomentsAreFoundOut) {
  EXPECT_EQ(FaultOf({7, ""}, {7, ""}), "");
  EXPECT_EQ(FaultOf({8, ""}, {7, ""}), "");
  EXPECT_NE(FaultOf({9, ""}, {7, ""}), "");
  EXPECT_NE(FaultOf({7, ""}, {8, ""}), "");
  EXPECT_EQ(FaultOf({7, "torn"}, {7, ""}), "torn");
  EXPECT_EQ(FaultOf({7, ""}, {7, "torn"}), "torn");
}

}  // namespace
}  // namespace tidemark::guest
