// Random numbers that are the same for the same seed everywhere. Each who chooses has a stream of
// its own, so that leaving one choice out leaves the others as they were: what shrinking needs.
#ifndef TESTS_SIMULATION_CHANCE_H_
#define TESTS_SIMULATION_CHANCE_H_

#include <cstdint>
#include <initializer_list>

#include "absl/strings/string_view.h"

namespace tidemark::simulation {

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed) {}
  // The stream of `name` and `number` among those of `seed`.
  Chance(uint64_t seed, absl::string_view name, uint64_t number = 0) : state_(seed) {
    for (const char c : name) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    state_ = (Next() ^ number) * 0x9e3779b97f4a7c15;
    Next();
  }

  // splitmix64.
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t end) { return Next() % end; }
  // From `first` to `last`, both included.
  uint64_t Between(uint64_t first, uint64_t last) { return first + Below(last - first + 1); }
  bool OneIn(uint64_t count) { return count != 0 && Below(count) == 0; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Below(values.size())];
  }

 private:
  uint64_t state_;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_CHANCE_H_
