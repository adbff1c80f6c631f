#include "service/shared/default_socket.h"

#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tidemark {

std::string DefaultSocketPath(const Environment& environment) {
  const absl::optional<std::string> runtime = environment("XDG_RUNTIME_DIR");
  if (geteuid() != 0 && runtime.has_value() && absl::StartsWith(*runtime, "/")) {
    return absl::StrCat(*runtime, "/tidemark.sock");
  }
  return kRootSocketPath;
}

}  // namespace tidemark
