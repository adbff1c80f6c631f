#include "engine/native/drivers/file_driver.h"

namespace tidemark::native {

FileDriver::FileDriver(std::shared_ptr<storage::File> file, std::unique_ptr<OpenFiles::Use> use)
    : path_(file->path()),
      identity_(file->identity()),
      use_(std::move(use)),
      file_(std::move(file)) {
  LookAtDisk();
}

std::shared_ptr<storage::File> FileDriver::file() const {
  MutexLock lock(&mutex_);
  return file_;
}

absl::optional<uint64_t> FileDriver::allocated_bytes() const {
  MutexLock lock(&mutex_);
  return allocated_bytes_;
}

void FileDriver::LookAtDisk() {
  const std::shared_ptr<storage::File> open_file = file();
  if (open_file == nullptr) return;
  const absl::StatusOr<uint64_t> bytes = open_file->AllocatedBytes();
  MutexLock lock(&mutex_);
  allocated_bytes_ = bytes.ok() ? absl::optional<uint64_t>(*bytes) : absl::nullopt;
}

absl::Status FileDriver::SetPermissions(const graph::Permissions& permissions) {
  MutexLock lock(&mutex_);
  permissions_ = permissions;
  return absl::OkStatus();
}

absl::Status FileDriver::ApplyPermissions() {
  graph::Permissions permissions;
  std::shared_ptr<storage::File> open_file;
  {
    MutexLock lock(&mutex_);
    permissions = permissions_;
    open_file = file_;
  }
  if (open_file == nullptr) return absl::OkStatus();  // Closed, and unlocked with that.
  return open_file->SetPermissions(permissions.used, permissions.shared);
}

absl::Status FileDriver::Close(std::vector<graph::StoredBitmap>) {
  std::shared_ptr<storage::File> closing;
  {
    MutexLock lock(&mutex_);
    closing.swap(file_);
  }
  const absl::Status status = closing->limits().read_only ? absl::OkStatus() : closing->Flush();
  // The lock goes now, the file when the last who can still reach it lets go of it.
  (void)closing->SetPermissions(storage::kPermissionNone, storage::kPermissionAll);
  use_ = nullptr;
  return status;
}

absl::Status PlainDriver::Close(std::vector<graph::StoredBitmap>) {
  const absl::Status status = storage_->limits().read_only ? absl::OkStatus() : storage_->Flush();
  storage_ = nullptr;
  return status;
}

}  // namespace tidemark::native
