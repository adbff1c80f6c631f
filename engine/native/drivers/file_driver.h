// Drivers without persistent bitmaps: file, raw and null-co. Thread rule: that of graph::Driver.
#ifndef ENGINE_NATIVE_DRIVERS_FILE_DRIVER_H_
#define ENGINE_NATIVE_DRIVERS_FILE_DRIVER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/graph/driver.h"
#include "engine/graph/permissions.h"
#include "engine/native/open_files.h"
#include "engine/storage/file.h"

namespace tidemark::native {

// A file: its node's permissions are its image lock.
class FileDriver final : public graph::Driver {
 public:
  // Asks the disk once: a worker.
  FileDriver(std::shared_ptr<storage::File> file, std::unique_ptr<OpenFiles::Use> use);

  absl::string_view name() const override { return "file"; }
  std::string filename() const override { return path_; }
  std::shared_ptr<storage::Storage> storage() override { return file(); }
  storage::FileIdentity identity() const { return identity_; }
  OpenFiles::Use& use() { return *use_; }
  absl::Status SetPermissions(const graph::Permissions& permissions) override;
  absl::Status ApplyPermissions() override;
  absl::Status Close(std::vector<graph::StoredBitmap> bitmaps) override;

  // The bytes of disk space that the file took when the disk was asked last. Any thread.
  absl::optional<uint64_t> allocated_bytes() const;
  // Asks the disk. Worker.
  void LookAtDisk();

 private:
  std::shared_ptr<storage::File> file() const;

  // Constant after construction.
  const std::string path_;
  const storage::FileIdentity identity_;
  std::unique_ptr<OpenFiles::Use> use_;  // Until closed.

  // Never held while a disk is waited for.
  mutable Mutex mutex_;
  std::shared_ptr<storage::File> file_ ABSL_GUARDED_BY(mutex_);  // Null when closed.
  graph::Permissions permissions_ ABSL_GUARDED_BY(mutex_);
  absl::optional<uint64_t> allocated_bytes_ ABSL_GUARDED_BY(mutex_);
};

// A storage that needs nothing else: raw over its file, null-co.
class PlainDriver final : public graph::Driver {
 public:
  PlainDriver(std::string name, std::string filename, std::shared_ptr<storage::Storage> storage,
              bool is_filter = false)
      : name_(std::move(name)),
        filename_(std::move(filename)),
        is_filter_(is_filter),
        storage_(std::move(storage)) {}

  absl::string_view name() const override { return name_; }
  std::string filename() const override { return filename_; }
  bool is_filter() const override { return is_filter_; }
  std::shared_ptr<storage::Storage> storage() override { return storage_; }
  absl::Status Close(std::vector<graph::StoredBitmap> bitmaps) override;

 private:
  const std::string name_;
  const std::string filename_;
  const bool is_filter_;
  std::shared_ptr<storage::Storage> storage_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DRIVERS_FILE_DRIVER_H_
