#include "engine/base/path_policy.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark {
namespace {

// As many as Linux follows.
constexpr int kDanglingLinksMax = 40;

absl::Status SystemError(absl::string_view what, const std::string& path, int error) {
  const Reason reason = error == ENOENT || error == ENOTDIR ? Reason::kFileNotFound
                        : error == EACCES                   ? Reason::kFileAccessDenied
                                                            : Reason::kIoError;
  return Error(reason, absl::StrCat(what, " '", path, "': ", std::strerror(error)),
               {{"file", path}});
}

// Empty if realpath fails; errno says why.
std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
  return real == nullptr ? "" : real.get();
}

// Empty if `path` is not a symbolic link.
std::string LinkTarget(const std::string& path) {
  char buffer[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), buffer, sizeof buffer);
  return length <= 0 || length == sizeof buffer ? "" : std::string(buffer, length);
}

// The folder part and the last name: "a/b/" is {"a", "b"}, "b" is {".", "b"}, "/b" is {"/", "b"}.
std::pair<std::string, std::string> Split(absl::string_view path) {
  while (path.size() > 1 && absl::ConsumeSuffix(&path, "/")) {
  }
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos) return {".", std::string(path)};
  return {std::string(slash == 0 ? "/" : path.substr(0, slash)),
          std::string(path.substr(slash + 1))};
}

std::string Join(const std::string& folder, absl::string_view name) {
  return absl::StrCat(folder, folder == "/" ? "" : "/", name);
}

// Where `path` leads. Parts at its end may be missing; what is missing cannot be a link, and ".."
// behind it is refused since no system call would follow it.
absl::StatusOr<std::string> Resolve(std::string path) {
  std::string missing;
  for (int links = 0; links < kDanglingLinksMax;) {
    const std::string real = RealPath(path);
    if (!real.empty()) return missing.empty() ? real : Join(real, missing);
    if (errno != ENOENT) return SystemError("Cannot resolve", path, errno);
    const auto [folder, name] = Split(path);
    const std::string target = LinkTarget(Join(folder, name));
    if (!target.empty()) {  // A link that dangles: opening it would create its target.
      ++links;
      path = target[0] == '/' ? target : Join(folder, target);
      continue;
    }
    if (name == ".." || name == "." || name.empty())
      return SystemError("Cannot resolve", path, ENOENT);
    missing = missing.empty() ? name : Join(name, missing);
    path = folder;
  }
  return SystemError("Cannot resolve", path, ELOOP);
}

}  // namespace

absl::StatusOr<std::string> PathPolicy::ResolveRoot(const std::string& root) {
  std::string real = RealPath(root);
  if (real.empty() || access(Join(real, ".").c_str(), F_OK) != 0) {
    return SystemError("Cannot use the folder", root, errno);
  }
  return real;
}

PathPolicy PathPolicy::OfResolved(std::vector<std::string> roots, std::vector<std::string> given) {
  PathPolicy policy;
  policy.roots_ = std::move(roots);
  policy.given_ = std::move(given);
  return policy;
}

absl::StatusOr<PathPolicy> PathPolicy::Create(const std::vector<std::string>& roots) {
  std::vector<std::string> resolved;
  for (const std::string& root : roots) {
    ASSIGN_OR_RETURN(std::string real, ResolveRoot(root));
    resolved.push_back(std::move(real));
  }
  return OfResolved(std::move(resolved), roots);
}

std::vector<std::string> PathPolicy::RootNames() const {
  std::vector<std::string> names = roots_;
  names.insert(names.end(), given_.begin(), given_.end());
  return names;
}

absl::Status PathPolicy::CheckForm(absl::string_view path) {
  if (path.empty() || path.find('\0') != absl::string_view::npos) {
    return Error(Reason::kInvalidField, "A file name is empty or holds a NUL byte");
  }
  if (path.size() >= PATH_MAX) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("A file name has ", path.size(), " bytes; at most ", PATH_MAX - 1,
                              " are possible"));
  }
  return absl::OkStatus();
}

absl::Status PathPolicy::CheckPath(absl::string_view path) const {
  if (allows_everything()) return absl::OkStatus();
  RETURN_IF_ERROR(CheckForm(path));
  const absl::StatusOr<std::string> resolved = Resolve(std::string(path));
  // A caller outside must not learn what exists there: whatever hinders us, it is refused.
  return CheckResolved(resolved.ok() ? *resolved : "", path);
}

absl::Status PathPolicy::CheckOpened(int descriptor, absl::string_view path) const {
  if (allows_everything()) return absl::OkStatus();
  // The kernel knows the one true name of an open file.
  return CheckResolved(LinkTarget(absl::StrCat("/proc/self/fd/", descriptor)), path);
}

absl::Status PathPolicy::CheckResolved(absl::string_view resolved, absl::string_view path) const {
  for (const std::string& root : roots_) {
    absl::string_view rest = resolved;
    if (root == "/" && absl::StartsWith(rest, "/")) return absl::OkStatus();
    if (absl::ConsumePrefix(&rest, root) && (rest.empty() || rest[0] == '/')) {
      return absl::OkStatus();
    }
  }
  const std::string all = absl::StrJoin(roots_, ", ");
  return Error(Reason::kPathForbidden,
               absl::StrCat("'", path, "' does not lie below an image root (", all, ")"),
               {{"file", path}, {"image_roots", all}});
}

}  // namespace tidemark
