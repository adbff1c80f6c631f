#include "service/signals.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <utility>

namespace tidemark {
namespace {

constexpr int kExitFailed = 1;

}  // namespace

Signals::Signals(StopRequest& stop) : stop_(stop) {
  // Blocked in every thread, so that only Take sees them.
  sigemptyset(&taken_);
  for (const int number : {SIGTERM, SIGINT, SIGXCPU, SIGHUP}) sigaddset(&taken_, number);
  pthread_sigmask(SIG_BLOCK, &taken_, nullptr);
  for (const int number : {SIGPIPE, SIGXFSZ, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGPOLL,
                           SIGPWR, SIGSTKFLT}) {
    signal(number, SIG_IGN);
  }
  for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) signal(number, SIG_IGN);
}

// Never joined: it waits for signals until the process ends.
void Signals::Start() {
  std::thread([this] { Take(); }).detach();
}

void Signals::SetReload(std::function<void()> reload) {
  MutexLock lock(&mutex_);
  reload_ = std::move(reload);
}

void Signals::SetUnsaved(std::function<std::string()> unsaved) {
  MutexLock lock(&mutex_);
  unsaved_ = std::move(unsaved);
}

void Signals::Take() {
  for (;;) {
    int number = 0;
    if (sigwait(&taken_, &number) != 0) continue;
    if (number == SIGHUP) {
      MutexLock lock(&mutex_);
      if (reload_) reload_();
    } else if (!stop_.is_made()) {
      stop_.Make();
    } else if (number != SIGXCPU) {
      MutexLock lock(&mutex_);
      const std::string unsaved = unsaved_ ? unsaved_() : "";
      std::fprintf(stderr, "tidemarkd: told to stop again, and ends at once%s%s\n",
                   unsaved.empty() ? "" : ": ", unsaved.c_str());
      std::fflush(nullptr);
      _exit(kExitFailed);
    }
  }
}

void RaiseLimits() {
  for (const int kind : {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_CPU}) {
    rlimit limit = {};
    if (getrlimit(static_cast<__rlimit_resource_t>(kind), &limit) != 0) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(static_cast<__rlimit_resource_t>(kind), &limit);
  }
}

}  // namespace tidemark
