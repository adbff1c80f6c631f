#include "engine/storage/image_lock.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/errno_status.h"

namespace tidemark::storage {
namespace {

constexpr int kUsedByte = 100;
constexpr int kUnsharedByte = 200;

struct flock ByteLock(short type, int byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

// True if another open file description has a lock on `byte`.
absl::StatusOr<bool> IsHeldByOthers(int fd, int byte, const std::string& file_name) {
  struct flock lock = ByteLock(F_WRLCK, byte);
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot look at the locks of \"", file_name, "\""));
  }
  return lock.l_type != F_UNLCK;
}

}  // namespace

ImageLock::~ImageLock() {
  MutexLock lock(&mutex_);
  Drop(used_, kUsedByte);
  Drop(unshared_, kUnsharedByte);
}

absl::StatusOr<std::unique_ptr<ImageLock>> ImageLock::Acquire(int fd, std::string file_name,
                                                              PermissionSet used,
                                                              PermissionSet shared) {
  auto lock = std::make_unique<ImageLock>(fd, std::move(file_name));
  RETURN_IF_ERROR(lock->Update(used, shared));
  return lock;
}

absl::Status ImageLock::Update(PermissionSet used, PermissionSet shared) {
  const PermissionSet unshared = kPermissionAll & ~shared;
  MutexLock lock(&mutex_);
  // First our own claim, then the look at others: of two newcomers at least one sees the other.
  const PermissionSet more_used = used & ~used_;
  const PermissionSet more_unshared = unshared & ~unshared_;
  absl::Status status = Add(more_used, kUsedByte);
  if (status.ok()) status = Add(more_unshared, kUnsharedByte);
  if (status.ok()) status = CheckOthers(more_used, more_unshared);
  if (!status.ok()) {
    Drop(more_used, kUsedByte);
    Drop(more_unshared, kUnsharedByte);
    return status;
  }
  Drop(used_ & ~used, kUsedByte);
  Drop(unshared_ & ~unshared, kUnsharedByte);
  used_ = used;
  unshared_ = unshared;
  return absl::OkStatus();
}

absl::Status ImageLock::Add(PermissionSet bytes, int first_byte) {
  for (int i = 0; i < kPermissionCount; ++i) {
    if ((bytes & (1u << i)) == 0) continue;
    struct flock lock = ByteLock(F_RDLCK, first_byte + i);
    if (fcntl(fd_, F_OFD_SETLK, &lock) == 0) continue;
    // Everybody takes shared locks only, so this is a foreign program's exclusive one.
    if (errno == EAGAIN || errno == EACCES) {
      return Error(Reason::kImageLocked,
                   absl::StrCat("cannot lock \"", file_name_, "\" for \"", NameOfPermission(i),
                                "\": another program has locked it"),
                   {{"filename", file_name_}, {"permission", NameOfPermission(i)}});
    }
    return ErrnoStatus(errno, absl::StrCat("cannot lock \"", file_name_, "\""));
  }
  return absl::OkStatus();
}

void ImageLock::Drop(PermissionSet bytes, int first_byte) {
  for (int i = 0; i < kPermissionCount; ++i) {
    if ((bytes & (1u << i)) == 0) continue;
    struct flock lock = ByteLock(F_UNLCK, first_byte + i);
    (void)fcntl(fd_, F_OFD_SETLK, &lock);
  }
}

absl::Status ImageLock::CheckOthers(PermissionSet used, PermissionSet unshared) {
  for (int i = 0; i < kPermissionCount; ++i) {
    const absl::string_view name = NameOfPermission(i);
    if ((used & (1u << i)) != 0) {
      ASSIGN_OR_RETURN(const bool held, IsHeldByOthers(fd_, kUnsharedByte + i, file_name_));
      if (held) {
        return Error(Reason::kImageLocked,
                     absl::StrCat("cannot get \"", name, "\" lock of image \"", file_name_,
                                  "\": another process that uses it does not share this"),
                     {{"filename", file_name_}, {"permission", name}});
      }
    }
    if ((unshared & (1u << i)) != 0) {
      ASSIGN_OR_RETURN(const bool held, IsHeldByOthers(fd_, kUsedByte + i, file_name_));
      if (held) {
        return Error(Reason::kImageLocked,
                     absl::StrCat("cannot get shared \"", name, "\" lock of image \"", file_name_,
                                  "\": another process uses it that way"),
                     {{"filename", file_name_}, {"permission", name}});
      }
    }
  }
  return absl::OkStatus();
}

PermissionSet ImageLock::used() const {
  MutexLock lock(&mutex_);
  return used_;
}

PermissionSet ImageLock::shared() const {
  MutexLock lock(&mutex_);
  return kPermissionAll & ~unshared_;
}

bool CanLockImages(int fd) {
  struct flock lock = ByteLock(F_WRLCK, 0);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0;
}

}  // namespace tidemark::storage
