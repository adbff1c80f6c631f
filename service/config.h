// What the command line of tidemarkd says.
#ifndef SERVICE_CONFIG_H_
#define SERVICE_CONFIG_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "adapters/qmp/limits.h"
#include "service/memory_shares.h"
#include "service/rpc/listen_address.h"
#include "service/shared/default_socket.h"

namespace tidemark {

struct Config {
  enum class Action { kServe, kHelp, kVersion };
  Action action = Action::kServe;

  std::vector<rpc::ListenAddress> listen;  // At least one.
  std::string state_dir;
  std::vector<std::string> image_roots;
  bool probe_formats = false;
  uint64_t memory_bytes_max = DefaultMemoryMax();
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string token_file;
  bool insecure = false;
  absl::optional<mode_t> listen_mode;
  std::string listen_group;  // Empty: the group of the process.
  std::string startup_file;
  // Virtual machines.
  std::vector<std::string> instance_folders;
  std::string instances_file;
  std::vector<std::string> instance_addresses;
  absl::Duration monitor_timeout = qmp::kSilenceMax;
};

// `arguments` without the program's name. INVALID_ARGUMENT names the flag and says what to write.
absl::StatusOr<Config> ParseConfig(const std::vector<std::string>& arguments,
                                   const Environment& environment);

// The addresses whose clients nobody asks who they are; only with `insecure`.
std::vector<std::string> UnguardedAddresses(const Config& config);

// What --help prints.
std::string HelpText();

}  // namespace tidemark

#endif  // SERVICE_CONFIG_H_
