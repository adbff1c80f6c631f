// The flags of `tidemark`, and the words between them. Pure functions; any thread.
#ifndef SERVICE_CLI_FLAGS_H_
#define SERVICE_CLI_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "service/shared/default_socket.h"

namespace tidemark::cli {

struct Flags {
  // "unix:PATH" or "HOST:PORT".
  std::string address;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  // A file with our token; if it is not given, the token itself, from the environment.
  std::string token_file;
  std::string token;
  // The engine; empty for the native one.
  absl::optional<std::string> instance;
  bool json = false;
  absl::Duration timeout = absl::InfiniteDuration();
  bool help = false;
  bool version = false;

  // Of `events` only.
  absl::optional<uint64_t> after;
  absl::optional<uint64_t> count;
  std::vector<std::string> jobs;
  std::vector<std::string> nodes;
  std::vector<std::string> kinds;
  // Of `wait` only.
  std::vector<std::string> statuses;

  // What is no flag: the command and its arguments.
  std::vector<std::string> words;
};

// `arguments` without the program's name. Flags may stand anywhere, as --name=value or --name
// value, with '-' or '_' in names; after "--" there are none. INVALID_ARGUMENT names the flag.
absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments,
                                 const Environment& environment);

// What `tidemark help` prints.
std::string GeneralHelp();

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_FLAGS_H_
