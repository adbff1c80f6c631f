// Image files looked at without an engine: what a restore would find. One thread (fibers.h).
#ifndef TESTS_SIMULATION_OFFLINE_H_
#define TESTS_SIMULATION_OFFLINE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/simulation/disk.h"

namespace tidemark::simulation {

// The first `size_bytes` of the disk in the image `path`, with the chain that its header names, all
// read-only and as the files are durable: what a loss of power right now would leave. Past the end
// there are zeroes.
absl::StatusOr<std::vector<std::byte>> ReadDurableImage(const Disks& disks, const std::string& path,
                                                        const std::string& driver,
                                                        uint64_t size_bytes);

// Empty, or what is wrong with the qcow2 image as it is now; leaks are allowed.
std::string CheckQcow2(const Disks& disks, const std::string& path);

// Puts an empty image there. Fails the world if the engine's own maker of images does.
struct NewImage {
  std::string driver = "qcow2";
  uint64_t size_bytes = 0;
  uint64_t cluster_bytes = 65536;
  uint32_t refcount_bits = 16;
  std::string backing;
  std::string backing_driver = "qcow2";
};
void MakeImage(Disks& disks, const std::string& path, const NewImage& image);

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_OFFLINE_H_
