// The byte-range locks by which QEMU, its tools and we keep out of each other's image files.
//
// A user that holds permission number i read-locks byte 100 + i of the file; one that does not let
// others have permission i read-locks byte 200 + i. A newcomer is refused if somebody holds byte
// 200 + i of a permission that it wants, or byte 100 + i of one that it will not share. The locks
// belong to an open file description, so two opens within one process refuse each other too.
#ifndef ENGINE_STORAGE_IMAGE_LOCK_H_
#define ENGINE_STORAGE_IMAGE_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/storage/permission.h"

namespace tidemark::storage {

// The permissions of one open file description on its file. Safe from any thread; may block on the
// file system. The descriptor belongs to the caller and outlives the lock.
class ImageLock {
 public:
  // Holds no permission and shares all until Update. `file_name` is for messages.
  ImageLock(int fd, std::string file_name) : fd_(fd), file_name_(std::move(file_name)) {}
  // Gives everything back.
  ~ImageLock();
  ImageLock(const ImageLock&) = delete;
  ImageLock& operator=(const ImageLock&) = delete;

  static absl::StatusOr<std::unique_ptr<ImageLock>> Acquire(int fd, std::string file_name,
                                                            PermissionSet used,
                                                            PermissionSet shared);

  // Moves to exactly these permissions, or changes nothing. IMAGE_LOCKED, naming the file and the
  // permission, if another user of the file does not agree; FEATURE_UNSUPPORTED if the file system
  // has no such locks.
  //
  // What QEMU's users take, seen in /proc/locks: a qcow2 image, writable: uses consistent read,
  // write and resize, shares all but write and resize; read-only: uses consistent read, shares the
  // same; with force-share: shares all. A raw image that nobody uses takes nothing; an NBD export
  // of it uses consistent read (and write), and shares all but resize.
  absl::Status Update(PermissionSet used, PermissionSet shared);

  PermissionSet used() const;
  PermissionSet shared() const;

 private:
  absl::Status Add(PermissionSet bytes, int first_byte) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(PermissionSet bytes, int first_byte) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckOthers(PermissionSet used, PermissionSet unshared)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const int fd_;
  const std::string file_name_;

  mutable Mutex mutex_;
  PermissionSet used_ ABSL_GUARDED_BY(mutex_) = kPermissionNone;
  PermissionSet unshared_ ABSL_GUARDED_BY(mutex_) = kPermissionNone;
};

// False where the file system refuses open-file-description locks; `locking: auto` then goes
// without.
bool CanLockImages(int fd);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_IMAGE_LOCK_H_
