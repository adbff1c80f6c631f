// Where the daemon listens, and the command line looks for it, when nobody says.
#ifndef SERVICE_SHARED_DEFAULT_SOCKET_H_
#define SERVICE_SHARED_DEFAULT_SOCKET_H_

#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace tidemark {

// Reads an environment variable; nullopt if it is not set.
using Environment = std::function<absl::optional<std::string>(absl::string_view name)>;

// Root's socket and its folder. The daemon makes this folder; every other must exist.
inline constexpr char kRootSocketFolder[] = "/run/tidemark";
inline constexpr char kRootSocketPath[] = "/run/tidemark/tidemark.sock";

// The path of the unix socket: in $XDG_RUNTIME_DIR, for root in /run.
std::string DefaultSocketPath(const Environment& environment);

}  // namespace tidemark

#endif  // SERVICE_SHARED_DEFAULT_SOCKET_H_
