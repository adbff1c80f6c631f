// Which file system a file name lies on, by the name alone: no disk is asked. Symbolic links are
// not followed, so a name that leads elsewhere counts where it is written.
#ifndef ENGINE_BASE_MOUNT_TABLE_H_
#define ENGINE_BASE_MOUNT_TABLE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tidemark {

// One thread at a time.
class MountTable {
 public:
  // Reads what the kernel tells in `mountinfo_path`, and reads it again when mounts have changed.
  explicit MountTable(const std::string& mountinfo_path = "/proc/self/mountinfo");
  ~MountTable();
  MountTable(const MountTable&) = delete;
  MountTable& operator=(const MountTable&) = delete;

  // The mount point that `path` lies below, the longest that fits; "/" if none does.
  std::string MountPointOf(absl::string_view path);

  // The mount points in the text of a mountinfo file; lines that are not understood are left out.
  static std::vector<std::string> Parse(absl::string_view mountinfo);

 private:
  void ReadIfChanged();

  int fd_ = -1;
  bool read_ = false;
  std::vector<std::string> mount_points_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_MOUNT_TABLE_H_
