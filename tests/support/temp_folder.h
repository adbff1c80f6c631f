// A folder for one test, gone with all that is in it when the test is over. One thread.
//
// It lies directly under /tmp, not in the test runner's deep folder: a path of a unix socket must
// stay below 108 bytes.
#ifndef TESTS_SUPPORT_TEMP_FOLDER_H_
#define TESTS_SUPPORT_TEMP_FOLDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tidemark::test {

class TempFolder {
 public:
  // Dies if the folder cannot be made: no test can go on without it.
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  // The path of `name` in the folder.
  std::string File(absl::string_view name) const;
  // Makes a folder in the folder and returns its path.
  std::string MakeFolder(absl::string_view name) const;
  // Every file and folder below, relative, sorted.
  std::vector<std::string> List() const;
  // The locks that any process holds on files of this folder, each once, sorted:
  // "disk.qcow2 READ 103-103". As /proc/locks tells.
  std::vector<std::string> Locks() const;

 private:
  std::vector<std::string> ReadLocks() const;

  std::string path_;
};

// The whole of a small file; dies if it cannot be read.
std::string ReadFile(const std::string& path);
// Replaces the file; dies if it cannot be written.
void WriteFile(const std::string& path, absl::string_view contents);
// Overwrites bytes of an existing file in place, whoever has it open.
void PatchFile(const std::string& path, uint64_t offset_bytes, absl::string_view bytes);
std::string ReadFileAt(const std::string& path, uint64_t offset_bytes, size_t length_bytes);

// A small file system in memory, mounted on `folder`. Needs the right to mount: see `mounted`.
class SmallFileSystem {
 public:
  SmallFileSystem(std::string folder, uint64_t size_bytes);
  ~SmallFileSystem();
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  // False if this process may not mount: the test skips.
  bool mounted() const { return mounted_; }
  // Changes the size: what lies on it stays.
  void Resize(uint64_t size_bytes);

 private:
  const std::string folder_;
  bool mounted_ = false;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_TEMP_FOLDER_H_
