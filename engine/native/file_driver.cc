#include "engine/native/file_driver.h"

namespace tidemark::native {

absl::Status FileDriver::SetPermissions(const graph::Permissions& permissions) {
  return file_->SetPermissions(permissions.used, permissions.shared);
}

absl::Status FileDriver::Close(std::vector<graph::StoredBitmap>) {
  const absl::Status status = file_->limits().read_only ? absl::OkStatus() : file_->Flush();
  // The lock goes now, the file when the last who can still reach it lets go of it.
  (void)file_->SetPermissions(storage::kPermissionNone, storage::kPermissionAll);
  file_ = nullptr;
  use_ = nullptr;
  return status;
}

absl::Status PlainDriver::Close(std::vector<graph::StoredBitmap>) {
  const absl::Status status = storage_->limits().read_only ? absl::OkStatus() : storage_->Flush();
  storage_ = nullptr;
  return status;
}

}  // namespace tidemark::native
