#include "engine/storage/machine_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/file_storage.h"

namespace tidemark::storage {

absl::StatusOr<int> MachineFiles::OpenDescriptor(const std::string& path, int flags,
                                                 absl::string_view attempted) const {
  RETURN_IF_ERROR(policy_.CheckPath(path));
  // Not blocking: a FIFO must not hold the engine up before it is refused.
  const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("cannot ", attempted, " \"", path, "\""));
  if (absl::Status status = policy_.CheckOpened(fd, path); !status.ok()) {
    close(fd);
    return status;
  }
  return fd;
}

absl::StatusOr<std::shared_ptr<File>> MachineFiles::Open(const std::string& path,
                                                         const FileOptions& options) {
  ASSIGN_OR_RETURN(const int fd,
                   OpenDescriptor(path, options.read_only ? O_RDONLY : O_RDWR, "open"));
  return AdoptFile(fd, path, options);
}

absl::Status MachineFiles::Create(const std::string& path, uint64_t size_bytes,
                                  Preallocation preallocation, const std::atomic<bool>* cancelled) {
  ASSIGN_OR_RETURN(const int fd, OpenDescriptor(path, O_RDWR | O_CREAT, "create"));
  const absl::Cleanup closer = [fd] { close(fd); };
  return CreateFileIn(fd, path, size_bytes, preallocation, cancelled);
}

absl::StatusOr<std::string> MachineFiles::ReadBeginning(const std::string& path, size_t bytes_max) {
  ASSIGN_OR_RETURN(const int fd, OpenDescriptor(path, O_RDONLY, "open"));
  const absl::Cleanup closer = [fd] { close(fd); };
  std::string bytes(bytes_max, '\0');
  bytes.resize(std::max<ssize_t>(pread(fd, bytes.data(), bytes.size(), 0), 0));
  return bytes;
}

}  // namespace tidemark::storage
