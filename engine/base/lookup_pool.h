// Looks up names of files, sockets and hosts, which may take for ever where a disk or a name server
// hangs, on threads of its own. Each place that can hang as a whole (file_places.h) has a share of
// them, so one that does takes a bounded part, and all others go on.
//
// Whoever asks is answered in time, also if the look-up is late: then it goes on alone, still
// counted against the share of its place, and nobody hears of it. So a look-up owns all that it
// uses, and touches nothing that may go.
#ifndef ENGINE_BASE_LOOKUP_POOL_H_
#define ENGINE_BASE_LOOKUP_POOL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/executor.h"

namespace tidemark {

// Safe from any thread; no call waits for a disk. The destructor does not either: it waits until
// all answers are told, so it is not run by one; threads that hang are left behind with what they
// hold.
class LookupPool {
 public:
  // What is waited for a file name unless said.
  static constexpr absl::Duration kLookMax = absl::Seconds(5);
  struct Limits {
    int running_max = 64;
    // The threads that one place has at most, while there are enough.
    int share_max = 4;
    // Look-ups of one place that run or wait. More are refused at once.
    size_t place_max = 16384;
    absl::Duration look_max = kLookMax;
  };

  // `answers` must outlive this; its threads touch no disk. `roots`: see FilePlaces.
  explicit LookupPool(Executor& answers, std::vector<std::string> roots = {});
  LookupPool(Executor& answers, std::vector<std::string> roots, Limits limits);
  ~LookupPool();
  LookupPool(const LookupPool&) = delete;
  LookupPool& operator=(const LookupPool&) = delete;

  using Look = absl::AnyInvocable<absl::Status()>;
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // Runs `look` on a thread that may hang and posts `done` to `answers` with what it returned,
  // exactly once. UNAVAILABLE (kFileNotAnswering, kShuttingDown) naming `name`, if that takes
  // longer than `time_max` (look_max() unless said), if too many wait for the same place, or after
  // Stop; then `look` has run in vain, runs still, or never will.
  void LookAtFile(absl::string_view path, Look look, Done done, absl::Duration time_max);
  void LookAtFile(absl::string_view path, Look look, Done done);
  // As LookAtFile, and waits for the answer, which it returns. Not on a thread of `answers`.
  absl::Status LookAndWait(absl::string_view path, Look look);
  void LookAtHost(absl::string_view host, Look look, Done done, absl::Duration time_max);

  // Answers all who wait with kShuttingDown, and from now on everybody; returns when all of it is
  // told. Not on a thread of `answers`.
  void Stop();

  // How long a file name is waited for.
  absl::Duration look_max() const;

  // Threads with a look-up, late ones too.
  int running_count() const;

 private:
  class Core;

  // Owned here and, while the threads of its look-ups hang, by nobody.
  std::shared_ptr<Core> core_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_LOOKUP_POOL_H_
