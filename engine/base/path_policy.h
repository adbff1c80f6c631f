// Which files the service may touch: those below its image roots. Any thread; constant.
//
// Two checks, because a path may change its meaning between a check and an open (somebody swaps a
// folder for a symbolic link). Check the name first, so that nothing outside is created, truncated
// or even looked at; then, after the open and before the first use, check what was really opened:
//
//   RETURN_IF_ERROR(policy.CheckPath(path));
//   int descriptor = open(path, ...);
//   RETURN_IF_ERROR(policy.CheckOpened(descriptor, path));   // else close it
//
// The front checks the names in requests. Whoever opens a file checks again, and must check names
// found in images (backing files), which no request has shown.
#ifndef ENGINE_BASE_PATH_POLICY_H_
#define ENGINE_BASE_PATH_POLICY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tidemark {

class PathPolicy {
 public:
  // Allows every path.
  PathPolicy() = default;

  // Allows what lies below one of `roots`: folders that exist. They may be symbolic links: what
  // they point to now is the root. Without roots, every path is allowed.
  static absl::StatusOr<PathPolicy> Create(const std::vector<std::string>& roots);

  // What Create makes of one root: absolute, without symbolic links.
  static absl::StatusOr<std::string> ResolveRoot(const std::string& root);
  // The same as Create, of roots that ResolveRoot told; `given` are other names of theirs.
  static PathPolicy OfResolved(std::vector<std::string> roots, std::vector<std::string> given);

  // What no disk need be asked about, since no link can mend it: empty, with a NUL byte, or longer
  // than the kernel takes. INVALID_ARGUMENT (kInvalidField).
  static absl::Status CheckForm(absl::string_view path);

  // Whether `path` (relative: from the working directory) leads into a root once every symbolic
  // link in it is followed. What does not exist yet is judged by its deepest existing parent; a
  // symbolic link that dangles, by where it points. PERMISSION_DENIED (kPathForbidden) names the
  // path and the roots.
  absl::Status CheckPath(absl::string_view path) const;

  // The same for a file that is open: judged by the file itself, not its name.
  absl::Status CheckOpened(int descriptor, absl::string_view path) const;

  bool allows_everything() const { return roots_.empty(); }

  // Absolute, without symbolic links.
  const std::vector<std::string>& roots() const { return roots_; }
  // The roots under every name that is known: as given to Create, and as they are.
  std::vector<std::string> RootNames() const;

 private:
  absl::Status CheckResolved(absl::string_view resolved, absl::string_view path) const;

  std::vector<std::string> roots_;
  std::vector<std::string> given_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_PATH_POLICY_H_
