// The folders that the configuration names, looked up when the service starts. One on a disk that
// hangs does not keep it from serving what is elsewhere.
#ifndef SERVICE_START_FOLDERS_H_
#define SERVICE_START_FOLDERS_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/executor.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"

namespace tidemark {

// The thread that starts the service.
class StartFolders {
 public:
  using Warn = std::function<void(const std::string&)>;

  // `answers` must outlive it. `folders`: all that will be asked for.
  StartFolders(Executor& answers, std::vector<std::string> folders, Warn warn);

  // `folder` as an absolute name without symbolic links, or, after a warning, as it is written if
  // its disk does not answer in time: then, should it turn out to be a symbolic link, nothing is
  // found to lie below it. `what` is how errors call it.
  absl::StatusOr<std::string> Resolve(absl::string_view what, const std::string& folder);

  // PathPolicy::Create, so resolved.
  absl::StatusOr<PathPolicy> PolicyOf(absl::string_view what,
                                      const std::vector<std::string>& roots);

  // Threads that hang at one of them.
  int running_count() const { return lookups_.running_count(); }

 private:
  LookupPool lookups_;
  const Warn warn_;
};

}  // namespace tidemark

#endif  // SERVICE_START_FOLDERS_H_
