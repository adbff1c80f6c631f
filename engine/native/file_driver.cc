#include "engine/native/file_driver.h"

namespace tidemark::native {

storage::PermissionSet ToStorage(graph::PermissionSet permissions) {
  constexpr std::pair<graph::Permission, storage::PermissionSet> kPairs[] = {
      {graph::Permission::kConsistentRead, storage::kPermissionConsistentRead},
      {graph::Permission::kWrite, storage::kPermissionWrite},
      {graph::Permission::kWriteUnchanged, storage::kPermissionWriteUnchanged},
      {graph::Permission::kResize, storage::kPermissionResize},
  };
  storage::PermissionSet set = storage::kPermissionNone;
  for (const auto& [permission, bit] : kPairs) {
    if (permissions.Contains(permission)) set |= bit;
  }
  return set;
}

absl::Status FileDriver::SetPermissions(const graph::Permissions& permissions) {
  return file_->SetPermissions(ToStorage(permissions.used), ToStorage(permissions.shared));
}

absl::Status FileDriver::Close(std::vector<graph::StoredBitmap>) {
  const absl::Status status = file_->limits().read_only ? absl::OkStatus() : file_->Flush();
  file_ = nullptr;  // Closes the file, and with it goes the lock.
  return status;
}

absl::Status PlainDriver::Close(std::vector<graph::StoredBitmap>) {
  const absl::Status status =
      storage_->limits().read_only ? absl::OkStatus() : storage_->Flush();
  storage_ = nullptr;
  return status;
}

}  // namespace tidemark::native
