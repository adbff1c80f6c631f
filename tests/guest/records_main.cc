// The program that the test guest runs on its two disks.
//
//   records write DISK0 DISK1     goes on where the disks end, for ever, a record each millisecond
//   records verify DISK0 DISK1    says what they hold
//
// Everything that it says is one line on the console, "records: " and then
//   wrote N          now and then
//   ok N M           the disks are of one moment, with records up to N and M
//   bad: ...         they are not, or something else is wrong
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "tests/guest/records.h"

namespace tidemark::guest {
namespace {

constexpr uint64_t kRecordsPerLine = 16;
constexpr uint64_t kRecordsPerFlush = 64;
constexpr long kPauseNanoseconds = 1'000'000;

// A disk, past every cache of the guest.
struct Disk {
  int fd = -1;
  uint64_t slot_count = 0;
};

int Complain(const std::string& what) {
  printf("records: bad: %s\n", what.c_str());
  return 1;
}

bool Open(const char* path, Disk* disk) {
  disk->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
  uint64_t size_bytes = 0;
  if (disk->fd < 0 || ioctl(disk->fd, BLKGETSIZE64, &size_bytes) != 0) return false;
  disk->slot_count = SlotCount(size_bytes);
  return true;
}

Contents ExamineDisk(int index, const Disk& disk) {
  return Examine(index, disk.slot_count, [&disk](uint64_t offset_bytes, unsigned char* record) {
    return pread(disk.fd, record, kRecordBytes, static_cast<off_t>(offset_bytes)) ==
           static_cast<ssize_t>(kRecordBytes);
  });
}

int Verify(const std::array<Disk, 2>& disks) {
  const Contents disk0 = ExamineDisk(0, disks[0]);
  const Contents disk1 = ExamineDisk(1, disks[1]);
  const std::string fault = FaultOf(disk0, disk1);
  if (!fault.empty()) return Complain(fault);
  printf("records: ok %llu %llu\n", static_cast<unsigned long long>(disk0.newest),
         static_cast<unsigned long long>(disk1.newest));
  return 0;
}

bool WriteRecord(int index, const Disk& disk, uint64_t number) {
  alignas(kRecordBytes) unsigned char record[kRecordBytes];
  MakeRecord(index, number, record);
  const off_t offset = static_cast<off_t>(OffsetOf(number, disk.slot_count));
  return pwrite(disk.fd, record, kRecordBytes, offset) == static_cast<ssize_t>(kRecordBytes) &&
         (number % kRecordsPerFlush != 0 || fdatasync(disk.fd) == 0);
}

int Write(const std::array<Disk, 2>& disks) {
  const Contents disk0 = ExamineDisk(0, disks[0]);
  const Contents disk1 = ExamineDisk(1, disks[1]);
  const std::string fault = FaultOf(disk0, disk1);
  if (!fault.empty()) return Complain(fault);
  for (uint64_t number = disk1.newest + 1;; ++number) {
    for (int index = 0; index < 2; ++index) {
      if (!WriteRecord(index, disks[static_cast<size_t>(index)], number)) {
        return Complain("record " + std::to_string(number) + " on disk " + std::to_string(index) +
                        ": " + strerror(errno));
      }
    }
    if (number % kRecordsPerLine == 0) {
      printf("records: wrote %llu\n", static_cast<unsigned long long>(number));
    }
    const timespec pause = {0, kPauseNanoseconds};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace
}  // namespace tidemark::guest

int main(int count, char** words) {
  setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  using namespace tidemark::guest;
  std::array<Disk, 2> disks;
  if (count != 4 || !Open(words[2], &disks[0]) || !Open(words[3], &disks[1])) {
    return Complain("usage: records write|verify DISK0 DISK1");
  }
  return strcmp(words[1], "write") == 0 ? Write(disks) : Verify(disks);
}
