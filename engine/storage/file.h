// Files as the engine uses them: found by name, opened once, used as a storage. The machine's files
// are in machine_files.h; tests hand in others.
#ifndef ENGINE_STORAGE_FILE_H_
#define ENGINE_STORAGE_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/storage/permission.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

struct FileOptions {
  // `auto`: lock if the file system can.
  enum class Locking { kAuto, kOn, kOff };

  bool read_only = false;
  // cache.direct: go round the page cache for every aligned part of a request; the ends of others
  // go through it.
  bool direct = false;
  // cache.no-flush: Flush does nothing.
  bool no_flush = false;
  // discard=unmap. Without it Discard does nothing.
  bool discard_unmaps = false;
  Locking locking = Locking::kAuto;
  // What the opener uses and shares from the first moment; SetPermissions changes it.
  PermissionSet permissions_used = kPermissionNone;
  PermissionSet permissions_shared = kPermissionAll;
};

enum class Preallocation {
  kOff,        // Sparse.
  kFallocate,  // Space reserved, reads as zeroes.
  kFull,       // Zeroes written.
};

// Which file it is, whatever it is called: two names of one file have one identity. Of a block
// device, the device.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// An open file or block device: it grows when it is written past its end (file_storage.h), and is
// closed, without a flush, by its destructor. As a disk it is whole sectors: if its length is no
// multiple of 512, the last one is filled up with zeroes. Any thread.
class File : public Storage {
 public:
  virtual const std::string& path() const = 0;
  // Of its own, unless it can be opened twice.
  virtual FileIdentity identity() const { return {0, reinterpret_cast<uintptr_t>(this)}; }
  // Its length to the byte.
  virtual uint64_t file_size_bytes() const { return size_bytes(); }
  // Bytes of disk space taken, as QEMU's actual-size.
  virtual absl::StatusOr<uint64_t> AllocatedBytes() const = 0;
  // Changes the image lock (image_lock.h): both or nothing. Does nothing where locking is off.
  virtual absl::Status SetPermissions(PermissionSet used, PermissionSet shared) = 0;
};

// Where names lead to files. Any thread; every verb may block, and fails with PATH_FORBIDDEN for
// what may not be touched, whatever is there.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Opens an existing file. FILE_NOT_FOUND, FILE_ACCESS_DENIED, IMAGE_LOCKED; FEATURE_UNSUPPORTED
  // for what is neither a regular file nor a block device, and for Locking::kOn where locks are
  // impossible.
  virtual absl::StatusOr<std::shared_ptr<File>> Open(const std::string& path,
                                                     const FileOptions& options) = 0;

  // Makes the file `path` hold `size_bytes` zeroes, whatever it held, and flushes it; an existing
  // file that others use is IMAGE_LOCKED and stays untouched. Leaves it closed. Fails with
  // JOB_CANCELLED soon after `cancelled` (may be null) has become true.
  virtual absl::Status Create(const std::string& path, uint64_t size_bytes,
                              Preallocation preallocation, const std::atomic<bool>* cancelled) = 0;

  // The first bytes of an existing file, whoever has locked it: at most `bytes_max`, fewer if it is
  // shorter or cannot be read.
  virtual absl::StatusOr<std::string> ReadBeginning(const std::string& path, size_t bytes_max) = 0;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_FILE_H_
