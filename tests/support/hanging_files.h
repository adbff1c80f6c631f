// A file system whose disk can be made to hang: what a dead NFS server or a failing controller is
// to the programs that use it. It shows the files of a folder; requests of the kinds that the test
// names are not answered until it lets them go.
#ifndef TESTS_SUPPORT_HANGING_FILES_H_
#define TESTS_SUPPORT_HANGING_FILES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/mutex.h"

namespace tidemark::test {

// Any thread. The destructor lets everything go, as an error, and unmounts.
class HangingFiles {
 public:
  // Kinds of requests, the numbers of the kernel's protocol (linux/fuse.h).
  static const std::set<uint32_t> kOpens;    // Look a name up, open, create.
  static const std::set<uint32_t> kStats;    // Attributes of a file: fstat.
  static const std::set<uint32_t> kFlushes;  // Flush a file: fsync.
  static const std::set<uint32_t> kWrites;
  static const std::set<uint32_t> kReads;
  static const std::set<uint32_t> kLocks;

  // Mounts it on `mount_point`, over the files of `folder`; both exist. Fails where mounting is
  // forbidden or the machine has no FUSE: skip the test then, and say why.
  static absl::StatusOr<std::unique_ptr<HangingFiles>> Mount(const std::string& folder,
                                                             const std::string& mount_point);
  ~HangingFiles();

  // From now on these hang.
  void Hang(std::set<uint32_t> kinds);
  // Nothing hangs any more, and what hung goes on.
  void Release();
  // Waits until so many requests hang.
  void WaitForHung(size_t count);

  // From now on nothing is taken from the kernel at all, until Release: as dead as can be. Unlike a
  // program whose request was taken, one that waits for this can still be killed.
  void Stall();
  // Waits until somebody waits for it.
  void WaitForStalled();

 private:
  HangingFiles(int device, int folder, std::string mount_point);
  void Serve();
  void Handle(const std::vector<std::byte>& request);
  void Reply(uint64_t unique, int error, const void* data = nullptr, size_t size = 0);

  void Lookup(uint64_t unique, const char* name, bool create);
  void GetAttributes(uint64_t unique, uint64_t inode);
  void SetAttributes(uint64_t unique, uint64_t inode, const std::byte* body);
  void Read(uint64_t unique, uint64_t inode, const std::byte* body);
  void Write(uint64_t unique, uint64_t inode, const std::byte* body);
  int DescriptorOf(uint64_t inode);
  // 0 if there is no such file.
  uint64_t InodeOf(const std::string& name, bool create);

  // Constant after construction.
  const int device_;
  const int folder_;
  const std::string mount_point_;

  Mutex files_mutex_;
  std::map<std::string, uint64_t> inodes_ ABSL_GUARDED_BY(files_mutex_);
  std::map<uint64_t, int> descriptors_ ABSL_GUARDED_BY(files_mutex_);

  Mutex mutex_;
  CondVar changed_;
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<uint32_t> hanging_kinds_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::vector<std::byte>> hung_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_HANGING_FILES_H_
