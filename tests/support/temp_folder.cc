#include "tests/support/temp_folder.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"

namespace tidemark::test {

TempFolder::TempFolder() {
  char name[] = "/tmp/tidemark-XXXXXX";
  CHECK(mkdtemp(name) != nullptr);
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::File(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

std::string TempFolder::MakeFolder(absl::string_view name) const {
  const std::string path = File(name);
  CHECK(mkdir(path.c_str(), 0700) == 0);
  return path;
}

std::vector<std::string> TempFolder::List() const {
  std::vector<std::string> names;
  // What vanishes meanwhile is no error.
  std::error_code ignored;
  const std::filesystem::recursive_directory_iterator end;
  for (std::filesystem::recursive_directory_iterator entry(path_, ignored); entry != end;
       entry.increment(ignored)) {
    names.push_back(entry->path().lexically_relative(path_).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The kernel tells its table in pieces: one lock may be told twice or not at all while others come
// and go. What is told twice alike is true.
std::vector<std::string> TempFolder::Locks() const {
  std::vector<std::string> before = ReadLocks();
  for (std::vector<std::string> now = ReadLocks(); now != before; now = ReadLocks()) {
    before.swap(now);
  }
  return before;
}

std::vector<std::string> TempFolder::ReadLocks() const {
  std::map<uint64_t, std::string> names;
  for (const std::string& name : List()) {
    // The service locks its own folder too; that is no image.
    if (name.rfind("state/", 0) == 0) continue;
    struct stat status;
    if (stat(File(name).c_str(), &status) == 0) names[status.st_ino] = name;
  }
  std::vector<std::string> locks;
  std::ifstream table("/proc/locks");
  for (std::string line; std::getline(table, line);) {
    // "1: OFDLCK ADVISORY READ -1 fd:01:1234 103 103"
    const std::vector<std::string> parts = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (parts.size() != 8) continue;
    const std::vector<std::string> file = absl::StrSplit(parts[5], ':');
    uint64_t inode = 0;
    if (file.size() != 3 || !absl::SimpleAtoi(file[2], &inode) || !names.contains(inode)) continue;
    locks.push_back(absl::StrCat(names[inode], " ", parts[3], " ", parts[6], "-", parts[7]));
  }
  std::sort(locks.begin(), locks.end());
  locks.erase(std::unique(locks.begin(), locks.end()), locks.end());
  return locks;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good());
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

void WriteFile(const std::string& path, absl::string_view contents) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  CHECK(file.good());
}

void PatchFile(const std::string& path, uint64_t offset_bytes, absl::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  CHECK(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)) ==
        static_cast<ssize_t>(bytes.size()));
  close(fd);
}

std::string ReadFileAt(const std::string& path, uint64_t offset_bytes, size_t length_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(fd >= 0);
  std::string bytes(length_bytes, '\0');
  CHECK(pread(fd, bytes.data(), length_bytes, static_cast<off_t>(offset_bytes)) ==
        static_cast<ssize_t>(length_bytes));
  close(fd);
  return bytes;
}

SmallFileSystem::SmallFileSystem(std::string folder, uint64_t size_bytes)
    : folder_(std::move(folder)) {
  mounted_ =
      mount("none", folder_.c_str(), "tmpfs", 0, absl::StrCat("size=", size_bytes).c_str()) == 0;
}

SmallFileSystem::~SmallFileSystem() {
  if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
}

void SmallFileSystem::Resize(uint64_t size_bytes) {
  CHECK(mount("none", folder_.c_str(), "tmpfs", MS_REMOUNT,
              absl::StrCat("size=", size_bytes).c_str()) == 0);
}

}  // namespace tidemark::test
