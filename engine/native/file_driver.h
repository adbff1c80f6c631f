// Drivers without persistent bitmaps: file, raw and null-co. Thread rule: that of graph::Driver.
#ifndef ENGINE_NATIVE_FILE_DRIVER_H_
#define ENGINE_NATIVE_FILE_DRIVER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/graph/driver.h"
#include "engine/graph/permissions.h"
#include "engine/native/open_files.h"
#include "engine/storage/file.h"

namespace tidemark::native {

// A file: its node's permissions are its image lock.
class FileDriver final : public graph::Driver {
 public:
  FileDriver(std::shared_ptr<storage::File> file, std::unique_ptr<OpenFiles::Use> use)
      : file_(std::move(file)), use_(std::move(use)) {}

  absl::string_view name() const override { return "file"; }
  std::string filename() const override { return file_->path(); }
  std::shared_ptr<storage::Storage> storage() override { return file_; }
  storage::File& file() { return *file_; }
  OpenFiles::Use& use() { return *use_; }
  absl::Status SetPermissions(const graph::Permissions& permissions) override;
  absl::Status Close(std::vector<graph::StoredBitmap> bitmaps) override;

 private:
  std::shared_ptr<storage::File> file_;
  std::unique_ptr<OpenFiles::Use> use_;
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

#endif  // ENGINE_NATIVE_FILE_DRIVER_H_
