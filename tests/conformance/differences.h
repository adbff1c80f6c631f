// Where engines behave differently, and stay so. Every scenario runs on every engine, except for
// those listed in differences.cc, each with its reason. Any thread.
#ifndef TESTS_CONFORMANCE_DIFFERENCES_H_
#define TESTS_CONFORMANCE_DIFFERENCES_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tidemark::test {

struct Difference {
  const char* scenario;  // "Fixture.Scenario".
  const char* backends;  // How the names of those begin that it is not told on: "Qemu", "Qemu72".
  const char* reason;
};

absl::Span<const Difference> Differences();

// Why a scenario is not told on an engine; empty: it is. `test` is its name as GoogleTest gives it:
// "On/BitmapScenarios.NamesMayHoldAnything/Qemu72".
std::string DifferenceOf(absl::string_view test, absl::string_view backend);

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_DIFFERENCES_H_
