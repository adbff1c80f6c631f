// Who decides which thread runs next, where it is not the machine.
//
// In production nobody is: locks, waits, threads and the clock are the machine's own, and this
// costs them one branch. A simulation plays many threads on one of the machine's: every lock, wait
// and new thread asks it, and it chooses who goes on. So the same code runs under an order that a
// seed decides, and runs the same way again.
//
// Used by Mutex, CondVar, Thread and SystemClock; nobody else needs to know it.
#ifndef ENGINE_BASE_COOPERATION_H_
#define ENGINE_BASE_COOPERATION_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"

namespace tidemark {

// Every verb is called by the threads that it plays.
class Cooperation {
 public:
  virtual ~Cooperation() = default;

  // The one that plays the calling thread; null in production.
  static Cooperation* current() { return current_; }

  // Others may run first.
  virtual void Yield() = 0;

  // Rests until somebody wakes the sleepers of `place`: true. Or until `timeout` has passed: false.
  virtual bool Sleep(const void* place, absl::Duration timeout) = 0;
  // Lets one of those who sleep at `place` go on, or all of them, at some later time.
  virtual void Wake(const void* place, bool all) = 0;

  // Begins a thread; the number is for Join, which returns when it has ended.
  virtual uint64_t Spawn(std::string name, std::function<void()> body) = 0;
  virtual void Join(uint64_t thread) = 0;

  // What SystemClock shows.
  virtual absl::Duration Elapsed() = 0;

 protected:
  // `played` plays the calling thread from now on.
  static void SetCurrent(Cooperation* played) { current_ = played; }

 private:
  // Constant initialisation, so that looking at it is one load.
  static inline constinit thread_local Cooperation* current_ = nullptr;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_COOPERATION_H_
