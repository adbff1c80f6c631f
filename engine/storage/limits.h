// Every bound of this package by name.
#ifndef ENGINE_STORAGE_LIMITS_H_
#define ENGINE_STORAGE_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace tidemark::storage {

// What memory, offset and length of direct I/O are multiples of: enough for every disk with sectors
// of 512 or 4096 bytes.
inline constexpr uint32_t kDirectAlignmentBytes = 4096;

// The largest single transfer given to the kernel; longer ones are split. (Linux moves at most 2^31
// - 4096.)
inline constexpr size_t kTransferBytesMax = size_t{1} << 30;

// A transfer that is put off (EINTR, EAGAIN) so many times in a row, without a byte moved, has
// failed.
inline constexpr int kIdleTransfersMax = 1000;

// What a CompletionWatch takes from the kernel at a time.
inline constexpr int kCompletionEventsMax = 64;

// So often the kernel is asked to take what a ring offers it; then threads see to it.
inline constexpr int kRingRefusalsMax = 8;

// The buffer of zeroes or of a bounce copy that one blocking verb may hold at a time.
inline constexpr size_t kBounceBytesMax = size_t{1} << 20;

// Requests one IoQueue may have in flight.
inline constexpr int kQueueDepthMax = 1024;
// Threads that stand in for io_uring, per queue.
inline constexpr int kQueueThreadCountMax = 8;

// The unit of every disk's size.
inline constexpr uint64_t kSectorBytes = 512;
// A disk is whole sectors, whatever holds it: the last one is filled up with zeroes.
constexpr uint64_t WholeSectors(uint64_t size_bytes) {
  return (size_bytes + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
}

// The largest file, as of the kernel's loff_t.
inline constexpr uint64_t kFileSizeBytesMax = (uint64_t{1} << 63) - 1;

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_LIMITS_H_
