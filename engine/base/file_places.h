// Which place a file name counts to, by the name alone: the file system on which it is written, and
// the folder of interest below which; below /dev each name is one by itself. A place is what hangs
// as a whole, as far as can be known without asking a disk.
#ifndef ENGINE_BASE_FILE_PLACES_H_
#define ENGINE_BASE_FILE_PLACES_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/mount_table.h"

namespace tidemark {

// One thread at a time.
class FilePlaces {
 public:
  // `roots` are apart from the rest of their file system, since each may be a symbolic link to
  // another one; under every name that they have.
  explicit FilePlaces(std::vector<std::string> roots = {},
                      const std::string& mountinfo_path = "/proc/self/mountinfo");

  // Equal for names that may hang together. "." and ".." are taken as they are written.
  std::string PlaceOf(absl::string_view path);

 private:
  const std::vector<std::string> roots_;
  MountTable mounts_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_FILE_PLACES_H_
