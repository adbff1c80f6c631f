#include "engine/base/file_places.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tidemark {
namespace {

std::string Normal(absl::string_view path) {
  std::string normal = std::filesystem::path(std::string(path)).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

bool LiesIn(absl::string_view path, absl::string_view folder) {
  return absl::ConsumePrefix(&path, folder) &&
         (path.empty() || path[0] == '/' || folder.back() == '/');
}

std::vector<std::string> AllNormal(std::vector<std::string> roots) {
  for (std::string& root : roots) root = Normal(root);
  return roots;
}

}  // namespace

FilePlaces::FilePlaces(std::vector<std::string> roots, const std::string& mountinfo_path)
    : roots_(AllNormal(std::move(roots))), mounts_(mountinfo_path) {}

std::string FilePlaces::PlaceOf(absl::string_view path) {
  const std::string normal = Normal(path);
  // The longest, as with mounts.
  absl::string_view longest;
  for (const std::string& root : roots_) {
    if (root.size() > longest.size() && LiesIn(normal, root)) longest = root;
  }
  // Each device may be a disk of its own, whatever file system its name is in.
  if (longest.empty() && LiesIn(normal, "/dev")) longest = normal;
  // No name has a NUL in it, so these cannot be confused.
  return absl::StrCat(mounts_.MountPointOf(normal), absl::string_view("\0", 1), longest);
}

}  // namespace tidemark
