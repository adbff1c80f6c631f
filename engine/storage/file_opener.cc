// Opening and creating files. Everything is asked of the open descriptor, never of the path again,
// so that what was checked is what is used.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/descriptor_reserve.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/limits.h"
#include "engine/storage/transfer.h"

namespace tidemark::storage {

// Fills in a FileStorage: its only maker.
class FileOpener {
 public:
  static absl::StatusOr<std::shared_ptr<FileStorage>> Open(int fd, const std::string& path,
                                                           const FileOptions& options) {
    // Owns the descriptor from here on.
    std::shared_ptr<FileStorage> file(new FileStorage(path, options));
    file->data_file_.buffered_fd = fd;
    RETURN_IF_ERROR(CheckDescriptorReserve(fd, absl::StrCat("cannot open \"", path, "\"")));
    RETURN_IF_ERROR(Measure(*file));
    // It is a file or a disk: io_uring would give its requests back instead of waiting for it.
    LetWait(fd);
    RETURN_IF_ERROR(Lock(*file));
    RETURN_IF_ERROR(OpenDirect(*file));
    if (options.direct && file->data_file_.direct_fd < 0) {
      return Error(Reason::kFeatureUnsupported,
                   absl::StrCat("\"", path,
                                "\" cannot be opened with cache.direct: its file "
                                "system has no direct I/O"),
                   {{"filename", path}});
    }
    file->data_file_.prefer_direct = options.direct;
    return file;
  }

 private:
  // Takes back the O_NONBLOCK it was opened with.
  static void LetWait(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }

  static absl::Status Measure(FileStorage& file) {
    const int fd = file.data_file_.buffered_fd;
    struct stat info;
    if (fstat(fd, &info) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot look at \"", file.path_, "\""));
    }
    ASSIGN_OR_RETURN(file.identity_, IdentityOf(fd, file.path_));
    if (S_ISREG(info.st_mode)) {
      file.size_bytes_ = info.st_size;
      return absl::OkStatus();
    }
    uint64_t size_bytes = 0;
    if (!S_ISBLK(info.st_mode) || ioctl(fd, BLKGETSIZE64, &size_bytes) != 0) {
      return Error(
          Reason::kFeatureUnsupported,
          absl::StrCat("\"", file.path_, "\" is neither a regular file nor a block device"),
          {{"filename", file.path_}});
    }
    file.is_block_device_ = true;
    file.size_bytes_ = size_bytes;
    return absl::OkStatus();
  }

  static absl::Status Lock(FileStorage& file) {
    const FileOptions& options = file.options_;
    if (options.locking == FileOptions::Locking::kOff) return absl::OkStatus();
    if (!CanLockImages(file.data_file_.buffered_fd)) {
      if (options.locking == FileOptions::Locking::kAuto) return absl::OkStatus();
      return Error(Reason::kFeatureUnsupported,
                   absl::StrCat("\"", file.path_,
                                "\" cannot be locked: its file system has no "
                                "open-file-description locks"),
                   {{"filename", file.path_}});
    }
    ASSIGN_OR_RETURN(file.lock_,
                     ImageLock::Acquire(file.data_file_.buffered_fd, file.path_,
                                        options.permissions_used, options.permissions_shared));
    return absl::OkStatus();
  }

  // A second descriptor of the same file, even if it was renamed or unlinked since.
  static absl::Status OpenDirect(FileStorage& file) {
    const std::string attempted = absl::StrCat("cannot open \"", file.path_, "\"");
    const std::string self = absl::StrCat("/proc/self/fd/", file.data_file_.buffered_fd);
    const int access = file.options_.read_only ? O_RDONLY : O_RDWR;
    const int fd = open(self.c_str(), access | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == EMFILE ? ErrnoStatus(errno, attempted) : absl::OkStatus();
    file.data_file_.direct_fd = fd;
    LetWait(fd);
    RETURN_IF_ERROR(CheckDescriptorReserve(fd, attempted));
    file.data_file_.direct_alignment_bytes = kDirectAlignmentBytes;
#ifdef STATX_DIOALIGN
    struct statx info;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
        (info.stx_mask & STATX_DIOALIGN) != 0) {
      if (info.stx_dio_offset_align == 0 || info.stx_dio_offset_align > kDirectAlignmentBytes ||
          info.stx_dio_mem_align > kDirectAlignmentBytes) {
        close(fd);
        file.data_file_.direct_fd = -1;
      }
    }
#endif
    return absl::OkStatus();
  }
};

absl::StatusOr<FileIdentity> IdentityOf(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot look at \"", path, "\""));
  }
  if (S_ISBLK(info.st_mode)) return FileIdentity{info.st_rdev, 0};
  return FileIdentity{info.st_dev, info.st_ino};
}

absl::StatusOr<std::shared_ptr<FileStorage>> AdoptFile(int fd, const std::string& path,
                                                       const FileOptions& options) {
  return FileOpener::Open(fd, path, options);
}

absl::StatusOr<std::shared_ptr<FileStorage>> OpenFile(const std::string& path,
                                                      const FileOptions& options) {
  // O_NONBLOCK, so that a FIFO cannot hold us.
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  const int fd = open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("cannot open image \"", path, "\""));
  return AdoptFile(fd, path, options);
}

namespace {

absl::Status Preallocate(int fd, const std::string& path, uint64_t size_bytes,
                         Preallocation preallocation, const std::atomic<bool>* cancelled) {
  const std::string attempted =
      absl::StrCat("cannot allocate ", size_bytes, " bytes for \"", path, "\"");
  if (preallocation == Preallocation::kFallocate && size_bytes > 0) {
    if (fallocate(fd, 0, 0, size_bytes) == 0) return absl::OkStatus();
    if (errno != EOPNOTSUPP) return ErrnoStatus(errno, attempted);
  }
  if (preallocation == Preallocation::kFull || preallocation == Preallocation::kFallocate) {
    AlignedBuffer zeroes(kBounceBytesMax);
    std::memset(zeroes.data(), 0, zeroes.size());
    for (uint64_t at = 0; at < size_bytes; at += zeroes.size()) {
      if (cancelled != nullptr && cancelled->load()) {
        return Error(Reason::kJobCancelled, absl::StrCat(attempted, ": cancelled"));
      }
      const Bytes part = zeroes.first(std::min<uint64_t>(zeroes.size(), size_bytes - at));
      const int error = WriteFully(fd, at, part);
      if (error != 0) return ErrnoStatus(error, attempted);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SyncFolderOf(int fd, const std::string& path) {
  // By the name that the kernel knows: the path may lead elsewhere by now.
  std::error_code error;
  const std::filesystem::path name =
      std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd), error);
  if (error) return absl::OkStatus();
  const int folder = open(name.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) {
    // Who may make files in a folder need not be allowed to read it; a folder may be gone.
    if (errno == EACCES || errno == EPERM || errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("cannot flush the folder of \"", path, "\""));
  }
  const int flushed = fsync(folder) == 0 ? 0 : errno;
  close(folder);
  // Some file systems know no such thing.
  if (flushed == 0 || flushed == EINVAL || flushed == EROFS) return absl::OkStatus();
  return ErrnoStatus(flushed, absl::StrCat("cannot flush the folder of \"", path, "\""));
}

absl::Status CreateFileIn(int fd, const std::string& path, uint64_t size_bytes,
                          Preallocation preallocation, const std::atomic<bool>* cancelled) {
  const std::string attempted =
      absl::StrCat("cannot make \"", path, "\" ", size_bytes, " bytes long");
  struct stat info;
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, attempted);
  if (!S_ISREG(info.st_mode)) {
    return Error(Reason::kFeatureUnsupported, absl::StrCat(attempted, ": not a regular file"),
                 {{"filename", path}});
  }
  if (size_bytes > kFileSizeBytesMax) return ErrnoStatus(EFBIG, attempted);

  std::unique_ptr<ImageLock> lock;
  if (CanLockImages(fd)) {
    ASSIGN_OR_RETURN(lock, ImageLock::Acquire(fd, path, kPermissionWrite | kPermissionResize,
                                              kPermissionAll & ~kPermissionResize));
  }
  if (ftruncate(fd, 0) != 0 || ftruncate(fd, size_bytes) != 0) {
    return ErrnoStatus(errno, attempted);
  }
  const absl::Status status = Preallocate(fd, path, size_bytes, preallocation, cancelled);
  if (!status.ok()) {
    // Gives back what was had in vain. There is nobody to tell if even that fails.
    if (ftruncate(fd, 0) != 0) return status;
    return status;
  }
  if (fsync(fd) != 0) return ErrnoStatus(errno, attempted);
  return SyncFolderOf(fd, path);
}

absl::Status CreateFile(const std::string& path, uint64_t size_bytes, Preallocation preallocation) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("cannot create \"", path, "\""));
  const absl::Cleanup closer = [fd] { close(fd); };
  return CreateFileIn(fd, path, size_bytes, preallocation);
}

}  // namespace tidemark::storage
