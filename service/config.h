// What the command line of tidemarkd says.
#ifndef SERVICE_CONFIG_H_
#define SERVICE_CONFIG_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "service/rpc/listen_address.h"

namespace tidemark {

struct Config {
  enum class Action { kServe, kHelp, kVersion };
  Action action = Action::kServe;

  std::vector<rpc::ListenAddress> listen;  // At least one.
  std::string state_dir;
  std::vector<std::string> image_roots;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string startup_file;
};

// Reads an environment variable; nullopt if it is not set.
using Environment = std::function<absl::optional<std::string>(absl::string_view name)>;

// `arguments` without the program's name. INVALID_ARGUMENT names the flag and says what to write.
absl::StatusOr<Config> ParseConfig(const std::vector<std::string>& arguments,
                                   const Environment& environment);

// What --help prints.
std::string HelpText();

// The path of the socket unless --listen is given: in $XDG_RUNTIME_DIR, for root in /run.
std::string DefaultSocketPath(const Environment& environment);

}  // namespace tidemark

#endif  // SERVICE_CONFIG_H_
