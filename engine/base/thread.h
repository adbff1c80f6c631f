// A thread of this process: the machine's own, or one that a simulation plays (cooperation.h).
#ifndef ENGINE_BASE_THREAD_H_
#define ENGINE_BASE_THREAD_H_

#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "absl/types/optional.h"

namespace tidemark {

// Runs `body` at once, beside its maker. Whoever has it calls Join before it is destroyed (as with
// std::thread).
class Thread {
 public:
  // `name` (at most 15 bytes are used) is what tools such as top show.
  Thread(std::string name, std::function<void()> body);
  Thread(Thread&&) = default;
  Thread& operator=(Thread&&) = default;

  // Returns when `body` has.
  void Join();

 private:
  // One of the two.
  std::thread machine_;
  absl::optional<uint64_t> played_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_THREAD_H_
