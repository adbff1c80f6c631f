#include "service/memory_shares.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/numbers.h"

namespace tidemark {
namespace {

constexpr uint64_t kDefaultLeast = uint64_t{256} << 20;
constexpr uint64_t kDefaultMost = uint64_t{1} << 30;

// What containers see as the limit of their own control group.
constexpr char kGroupMax[] = "/sys/fs/cgroup/memory.max";

}  // namespace

uint64_t DefaultMemoryMax() {
  const uint64_t machine_bytes =
      static_cast<uint64_t>(std::max(0L, sysconf(_SC_PHYS_PAGES))) * sysconf(_SC_PAGE_SIZE);
  std::string group_max;
  std::ifstream(kGroupMax) >> group_max;
  return DefaultMemoryMax(machine_bytes, group_max);
}

uint64_t DefaultMemoryMax(uint64_t machine_bytes, const std::string& group_max) {
  uint64_t bytes = machine_bytes;
  if (uint64_t limit = 0; absl::SimpleAtoi(group_max, &limit)) bytes = std::min(bytes, limit);
  return std::min(std::max(bytes / 8, kDefaultLeast), kDefaultMost);
}

}  // namespace tidemark
