// Is an image in order? Counts what every cluster of the file is used for and compares it with what
// the image says, as qemu-img check does; nothing is changed.
#ifndef ENGINE_FORMAT_QCOW2_CHECK_H_
#define ENGINE_FORMAT_QCOW2_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

struct CheckResult {
  // Each can cost data: a cluster used more often than counted, an entry that cannot be.
  uint64_t corruptions = 0;
  // Clusters counted more often than used: lost space, otherwise harmless.
  uint64_t leaks = 0;

  // Of the disk as it is now, without its snapshots: clusters it has, of them with data of their
  // own, of those compressed, and of those not right behind their neighbour in the file.
  uint64_t total_clusters = 0;
  uint64_t allocated_clusters = 0;
  uint64_t compressed_clusters = 0;
  uint64_t fragmented_clusters = 0;
  // The end of the last cluster of the file that is counted or used.
  uint64_t image_end_offset_bytes = 0;

  // The first findings in words; the numbers above count all of them.
  std::vector<std::string> findings;

  bool clean() const { return corruptions == 0 && leaks == 0; }
};

// Checks the image in `file`, which nobody may write to meanwhile. An image that is open for
// writing looks leaky until it is flushed. Blocks for as long as it takes to read all metadata, so
// workers only. Errors: those of ReadHeader, since there is nothing to check then; kLimitReached if
// it would take more memory or time than a hostile image should get; the file's own.
absl::StatusOr<CheckResult> Check(storage::Storage& file);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_CHECK_H_
