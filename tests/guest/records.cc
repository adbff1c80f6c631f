#include "tests/guest/records.h"

#include <cstring>
#include <optional>
#include <vector>

namespace tidemark::guest {
namespace {

// Odd, so that multiplying by it permutes the slots.
constexpr uint64_t kScatter = 0x9E3779B1;
constexpr uint64_t kMagic = 0x6b72616d65646974;  // "tidemark"

// The first words of a record; noise that follows from them fills the rest.
struct Header {
  uint64_t magic;
  uint64_t disk;
  uint64_t number;
};

uint64_t NextNoise(uint64_t* state) {
  *state += 0x9E3779B97F4A7C15;
  uint64_t mixed = (*state ^ (*state >> 30)) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
  return mixed ^ (mixed >> 31);
}

bool IsZero(const unsigned char* record) {
  static constexpr unsigned char kZeroes[kRecordBytes] = {};
  return memcmp(record, kZeroes, kRecordBytes) == 0;
}

// The number of a whole record of `disk`; 0 for a slot never written; nullopt for anything else.
std::optional<uint64_t> NumberOf(int disk, const unsigned char* record) {
  if (IsZero(record)) return 0;
  Header header;
  memcpy(&header, record, sizeof(header));
  unsigned char expected[kRecordBytes];
  MakeRecord(disk, header.number, expected);
  if (memcmp(record, expected, kRecordBytes) != 0) return std::nullopt;
  return header.number;
}

std::string At(int disk, uint64_t offset_bytes) {
  return "disk " + std::to_string(disk) + " at " + std::to_string(offset_bytes) + ": ";
}

}  // namespace

uint64_t SlotCount(uint64_t disk_bytes) {
  uint64_t count = 1;
  while (count * 2 * kStrideBytes <= disk_bytes) count *= 2;
  return count;
}

uint64_t OffsetOf(uint64_t number, uint64_t slot_count) {
  return ((number * kScatter) & (slot_count - 1)) * kStrideBytes;
}

void MakeRecord(int disk, uint64_t number, unsigned char* record) {
  const Header header{kMagic, static_cast<uint64_t>(disk), number};
  memcpy(record, &header, sizeof(header));
  uint64_t state = number * 2 + static_cast<uint64_t>(disk);
  for (size_t at = sizeof(header); at < kRecordBytes; at += sizeof(uint64_t)) {
    const uint64_t noise = NextNoise(&state);
    memcpy(record + at, &noise, sizeof(noise));
  }
}

Contents Examine(int disk, uint64_t slot_count, const ReadAt& read_at) {
  Contents contents;
  std::vector<uint64_t> found(slot_count, 0);
  for (uint64_t slot = 0; slot < slot_count; ++slot) {
    const uint64_t offset = slot * kStrideBytes;
    alignas(kRecordBytes) unsigned char record[kRecordBytes];
    if (!read_at(offset, record)) {
      contents.fault = At(disk, offset) + "cannot be read";
      return contents;
    }
    const std::optional<uint64_t> number = NumberOf(disk, record);
    if (!number.has_value()) {
      contents.fault = At(disk, offset) + "no record";
      return contents;
    }
    found[slot] = *number;
    if (*number > contents.newest) contents.newest = *number;
  }
  for (uint64_t back = 0; back < slot_count; ++back) {
    const uint64_t expected = contents.newest > back ? contents.newest - back : 0;
    // Before the first record: the slots that it and its followers have not reached.
    const uint64_t number = contents.newest - back;
    const uint64_t offset = OffsetOf(number, slot_count);
    const uint64_t present = found[offset / kStrideBytes];
    if (present != expected && contents.fault.empty()) {
      contents.fault = At(disk, offset) + "record " + std::to_string(present) + " instead of " +
                       std::to_string(expected) + ", the newest is " +
                       std::to_string(contents.newest);
    }
  }
  return contents;
}

std::string FaultOf(const Contents& disk0, const Contents& disk1) {
  if (!disk0.fault.empty()) return disk0.fault;
  if (!disk1.fault.empty()) return disk1.fault;
  if (disk0.newest == disk1.newest || disk0.newest == disk1.newest + 1) return "";
  return "not of one moment: disk 0 ends with record " + std::to_string(disk0.newest) +
         ", disk 1 with record " + std::to_string(disk1.newest);
}

}  // namespace tidemark::guest
