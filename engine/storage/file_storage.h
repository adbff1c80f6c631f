// A file or block device of this machine as a storage: driver file.
//
// Unlike what the graph shows to guests, a file has no fixed end, because a format above it lets it
// grow: a write past the end extends it (a block device refuses with NO_SPACE), and reads past the
// end give zeroes. Whoever hands a file to guests checks ranges against size_bytes() first; whoever
// may not resize must not write past the end.
#ifndef ENGINE_STORAGE_FILE_STORAGE_H_
#define ENGINE_STORAGE_FILE_STORAGE_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/storage/file.h"
#include "engine/storage/image_lock.h"
#include "engine/storage/storage.h"
#include "engine/storage/storage_target.h"

namespace tidemark::storage {

// Opened by one of the functions below, closed by the destructor (which does not flush). Safe from
// any thread.
class FileStorage final : public File {
 public:
  ~FileStorage() override;

  const std::string& path() const override { return path_; }
  bool is_block_device() const { return is_block_device_; }
  absl::StatusOr<uint64_t> AllocatedBytes() const override;
  absl::Status SetPermissions(PermissionSet used, PermissionSet shared) override;

  FileIdentity identity() const override { return identity_; }
  uint64_t file_size_bytes() const override { return size_bytes_; }

  uint64_t size_bytes() const override;
  Limits limits() const override;
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  // Does nothing if nothing was changed since the last one that succeeded.
  absl::Status Flush() override;
  // FEATURE_UNSUPPORTED for a block device, unless it has that size already: then that is taken
  // over.
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override;
  // May reach past the end: the file grows as the bytes are written, size_bytes() when the
  // placement is finished or given up. A file has one place for each byte, so without Finish the
  // range holds whatever was written there.
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override;

  // Where batch requests may go while this storage lives.
  IoTarget* target() { return &target_; }
  // Tells that batch writes to target() have covered `range`, or that some of it may be written.
  void NoteWritten(Range range);
  void NotePartlyWritten(Range range);

 private:
  friend class FileOpener;
  FileStorage(std::string path, const FileOptions& options);

  absl::Status Failed(int errno_value, absl::string_view verb, Range range) const;
  absl::Status ChangeFailed(int errno_value, absl::string_view verb, Range range);
  absl::Status CheckChange(absl::string_view verb, Range range) const;
  absl::Status WriteZeroData(Range range);
  // Ways to zero a range in the file system or the device: false if they do not exist here.
  absl::StatusOr<bool> Allocate(int mode, Range range, std::atomic<bool>* possible);
  absl::StatusOr<bool> ZeroKeepingSpace(Range range);
  absl::StatusOr<bool> ZeroData(Range range);
  // What the beginning of `range` holds, wherever the file ends.
  Extent Seek(Range range) const;

  // Constant after opening.
  const std::string path_;
  const FileOptions options_;
  bool is_block_device_ = false;
  FileIdentity identity_;
  DataFile data_file_;
  StorageTarget target_{this, &data_file_};
  std::unique_ptr<ImageLock> lock_;

  // Their own synchronisation.
  std::atomic<uint64_t> size_bytes_ = 0;
  // Cleared when the file system first says that it cannot.
  std::atomic<bool> can_punch_ = true;
  std::atomic<bool> can_zero_ = true;
  std::atomic<bool> can_allocate_ = true;
  // The errno of the first failed Flush: the kernel forgets it, and dirty pages with it. All later
  // ones fail like it (LossStatus).
  std::atomic<int> flush_errno_ = 0;
  // Counts changes, each once it is made: a remembered extent is stale, and there is something to
  // flush.
  std::atomic<uint64_t> change_count_ = 0;
  // Changes below this number are durable, those of other openers before it, too; 0 until the first
  // Flush, so that it always is one.
  std::atomic<uint64_t> flushed_before_ = 0;

  Mutex mutex_;
  // The last answer of Map, and the changes seen when it was asked for.
  Extent mapped_ ABSL_GUARDED_BY(mutex_);
  uint64_t mapped_change_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Of an open file.
absl::StatusOr<FileIdentity> IdentityOf(int fd, const std::string& path);

// Opens an existing file. FILE_NOT_FOUND, FILE_ACCESS_DENIED, IMAGE_LOCKED; FEATURE_UNSUPPORTED for
// what is neither a regular file nor a block device, and for Locking::kOn where locks are
// impossible; LIMIT_REACHED if it would take one of the descriptors that are kept for clients.
absl::StatusOr<std::shared_ptr<FileStorage>> OpenFile(const std::string& path,
                                                      const FileOptions& options);

// The same for a file somebody else has opened (and checked): takes over `fd`, also on failure. The
// path is only for messages. `fd` must be open for writing unless options.read_only.
absl::StatusOr<std::shared_ptr<FileStorage>> AdoptFile(int fd, const std::string& path,
                                                       const FileOptions& options);

// Flushes the folder that holds an open file, so that its name outlives a loss of power.
absl::Status SyncFolderOf(int fd, const std::string& path);

// Makes the file `path` hold `size_bytes` zeroes, whatever it held, and flushes it and its folder;
// an existing file that others use is IMAGE_LOCKED and stays untouched. Leaves it closed.
absl::Status CreateFile(const std::string& path, uint64_t size_bytes, Preallocation preallocation);

// The same for a file somebody else has opened for writing; `fd` stays open and the caller's. Fails
// with JOB_CANCELLED soon after `cancelled` (may be null) has become true.
absl::Status CreateFileIn(int fd, const std::string& path, uint64_t size_bytes,
                          Preallocation preallocation,
                          const std::atomic<bool>* cancelled = nullptr);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_FILE_STORAGE_H_
