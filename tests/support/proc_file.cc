#include "tests/support/proc_file.h"

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace tidemark::test {
namespace {

// The figure behind `name` in a file, in KiB; 0 if it is not there.
int64_t KibOf(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  int64_t value = 0;
  while (file >> word) {
    if (word == name && file >> value) return value;
  }
  return 0;
}

}  // namespace

int64_t AvailableKib() { return KibOf("/proc/meminfo", "MemAvailable:"); }

int64_t ResidentKib(pid_t pid) { return KibOf(absl::StrCat("/proc/", pid, "/status"), "VmRSS:"); }

}  // namespace tidemark::test
