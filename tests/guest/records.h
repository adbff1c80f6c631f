// What the test guest writes on its disks, and how a judge tells that a copy of them is of one
// moment. Plain functions; any thread. The guest's own program and the tests share this file, so it
// uses the standard library alone.
//
// The guest numbers its records from 1 and writes each to disk 0, waits until that is done, and
// then writes it to disk 1. A record has a slot of its own; there are a power of two of slots, one
// per kStrideBytes of the disk, and record n overwrites record n - slots. Consecutive records lie
// far apart. So a disk at any moment holds the newest records up to some number, each in its slot,
// none missing; and disk 0 is ahead of disk 1 by one record or by none.
#ifndef TESTS_GUEST_RECORDS_H_
#define TESTS_GUEST_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace tidemark::guest {

inline constexpr size_t kRecordBytes = 4096;
// One record per cluster of a qcow2 image with its usual cluster size.
inline constexpr uint64_t kStrideBytes = 65536;

// The number of slots on a disk of this size.
uint64_t SlotCount(uint64_t disk_bytes);
// Where record `number` lies.
uint64_t OffsetOf(uint64_t number, uint64_t slot_count);
// Makes the kRecordBytes of record `number` of disk `disk`.
void MakeRecord(int disk, uint64_t number, unsigned char* record);

// What a disk holds.
struct Contents {
  // 0: none yet.
  uint64_t newest = 0;
  // What is wrong: the first slot that does not hold what it should. Empty if nothing is.
  std::string fault;
};
// Reads kRecordBytes at an offset; false if that fails.
using ReadAt = std::function<bool(uint64_t offset_bytes, unsigned char* record)>;
Contents Examine(int disk, uint64_t slot_count, const ReadAt& read_at);

// What is wrong with two disks that should be of one moment; empty if nothing is.
std::string FaultOf(const Contents& disk0, const Contents& disk1);

}  // namespace tidemark::guest

#endif  // TESTS_GUEST_RECORDS_H_
