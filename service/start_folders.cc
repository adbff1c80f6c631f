#include "service/start_folders.h"

#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"

namespace tidemark {
namespace {

// Empty if `folder` goes upwards: where that leads, only its disk knows.
std::string AsWritten(const std::string& folder) {
  const std::filesystem::path path(folder);
  for (const std::filesystem::path& part : path) {
    if (part == "..") return "";
  }
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  if (error) return "";
  return absolute == "/" ? absolute : std::string(absl::StripSuffix(absolute, "/"));
}

}  // namespace

StartFolders::StartFolders(Executor& answers, std::vector<std::string> folders, Warn warn)
    : lookups_(answers, std::move(folders)), warn_(std::move(warn)) {}

absl::StatusOr<std::string> StartFolders::Resolve(absl::string_view what,
                                                  const std::string& folder) {
  const auto real = std::make_shared<std::string>();  // Of a look-up that may be late, too.
  const absl::Status status = lookups_.LookAndWait(folder, [real, folder]() -> absl::Status {
    ASSIGN_OR_RETURN(*real, PathPolicy::ResolveRoot(folder));
    return absl::OkStatus();
  });
  if (status.ok()) return *real;
  const std::string written = AsWritten(folder);
  if (!absl::IsUnavailable(status) || written.empty()) {
    return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
  }
  warn_(absl::StrCat(what, ": ", status.message(), "; until a restart it is taken to be '", written,
                     "', and no symbolic link"));
  return written;
}

absl::StatusOr<PathPolicy> StartFolders::PolicyOf(absl::string_view what,
                                                  const std::vector<std::string>& roots) {
  std::vector<std::string> resolved;
  for (const std::string& root : roots) {
    ASSIGN_OR_RETURN(std::string real, Resolve(what, root));
    resolved.push_back(std::move(real));
  }
  return PathPolicy::OfResolved(std::move(resolved), roots);
}

}  // namespace tidemark
