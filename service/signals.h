// The signals of the daemon, and what the kernel does to it beside.
//
// TERM and INT, and XCPU (its time on the processor is used up), are the order to stop. If one of
// the first two comes again before the daemon has ended, it ends at once and says what was not
// saved. HUP is the order to read certificates, keys and tokens again. What would kill a daemon
// that does not expect it is an error of the call concerned, or nothing: PIPE, XFSZ (a file may not
// grow: `ulimit -f`), USR1, USR2, ALRM, VTALRM, PROF, POLL, PWR, STKFLT and those of real time.
// What programmers send to see where it is (QUIT, ABRT) and what the processor sends stay as they
// are.
#ifndef SERVICE_SIGNALS_H_
#define SERVICE_SIGNALS_H_

#include <signal.h>

#include <functional>
#include <string>

#include "engine/base/mutex.h"
#include "service/stop_request.h"

namespace tidemark {

// To be made by the first thread, before there are others. Ends with the process.
class Signals {
 public:
  // `stop` must live until the end of the process.
  explicit Signals(StopRequest& stop);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Begins to take signals, on a thread of its own. Once.
  void Start();

  // What HUP does; null: nothing. Runs on that thread, not after a later call of this has returned.
  void SetReload(std::function<void()> reload);
  // What would be lost if the daemon ended now, for people; null: nothing is known. As above.
  void SetUnsaved(std::function<std::string()> unsaved);

 private:
  void Take();

  StopRequest& stop_;
  sigset_t taken_;

  Mutex mutex_;
  std::function<void()> reload_ ABSL_GUARDED_BY(mutex_);
  std::function<std::string()> unsaved_ ABSL_GUARDED_BY(mutex_);
};

// Takes what the host allows of open files (each virtual machine takes two, each client and each
// image one), of the size of files, and of time on the processor.
void RaiseLimits();

}  // namespace tidemark

#endif  // SERVICE_SIGNALS_H_
