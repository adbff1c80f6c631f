// The tokens by which clients of TLS addresses may say who they are, from a file that can be read
// anew while the server serves. The file has only their hashes. Any thread.
//
//   # comment
//   NAME SHA256HEX
//
// NAME is the client's: letters, digits, '.', '_', '-' and '@', at most 63 of them. One name may
// have several tokens, so that a new one can be handed out before the old one goes.
#ifndef SERVICE_RPC_TOKENS_H_
#define SERVICE_RPC_TOKENS_H_

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/base/mutex.h"

namespace tidemark::rpc {

class Tokens {
 public:
  // Reads the file. INVALID_ARGUMENT names it and the line that cannot be used, without quoting
  // what may be a secret. Blocks, as Reload does.
  static absl::StatusOr<std::shared_ptr<Tokens>> Create(std::string path);

  // Reads it again: calls that begin from now on need a token that is in it. If it cannot be used,
  // nothing changes, and the error is that of Create.
  absl::Status Reload();

  // Whose token that is; absent: nobody's. Takes the same time for all that are of one length.
  absl::optional<std::string> NameOf(absl::string_view token) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  struct Entry {
    std::string name;
    Hash hash;
  };

  explicit Tokens(std::string path) : path_(std::move(path)) {}
  absl::Status Unusable(absl::string_view why) const;
  absl::StatusOr<std::vector<Entry>> Read() const;

  const std::string path_;

  mutable Mutex mutex_;
  std::shared_ptr<const std::vector<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
};

// The token of a value of the metadata `authorization`: "Bearer TOKEN". Absent: it is none.
absl::optional<absl::string_view> BearerToken(absl::string_view authorization);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_TOKENS_H_
