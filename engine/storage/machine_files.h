// The files and block devices of this machine, as far as a policy allows them to be touched.
#ifndef ENGINE_STORAGE_MACHINE_FILES_H_
#define ENGINE_STORAGE_MACHINE_FILES_H_

#include <memory>
#include <string>
#include <utility>

#include "engine/base/path_policy.h"
#include "engine/storage/file.h"

namespace tidemark::storage {

// Thread rule: that of FileSystem. A name is checked before it is looked at, and what was opened
// before it is used (path_policy.h).
class MachineFiles final : public FileSystem {
 public:
  explicit MachineFiles(PathPolicy policy) : policy_(std::move(policy)) {}

  absl::StatusOr<std::shared_ptr<File>> Open(const std::string& path,
                                             const FileOptions& options) override;
  absl::Status Create(const std::string& path, uint64_t size_bytes, Preallocation preallocation,
                      const std::atomic<bool>* cancelled) override;
  absl::StatusOr<std::string> ReadBeginning(const std::string& path, size_t bytes_max) override;

 private:
  // The descriptor is the caller's. `attempted`: "open", "create".
  absl::StatusOr<int> OpenDescriptor(const std::string& path, int flags,
                                     absl::string_view attempted) const;

  const PathPolicy policy_;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_MACHINE_FILES_H_
