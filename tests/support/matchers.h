// Matchers that say in ranges and names what is wrong.
#ifndef TESTS_SUPPORT_MATCHERS_H_
#define TESTS_SUPPORT_MATCHERS_H_

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "tests/support/byte_model.h"
#include "tests/support/client.h"
#include "tests/support/image.h"

namespace tidemark::test {

// The status code that a reason always comes with.
absl::StatusCode CodeOfReason(v1::ErrorReason reason);
// As in ErrorInfo: without its prefix.
std::string NameOfReason(v1::ErrorReason reason);

// A reply or refusal for exactly this reason, with its one status code, a complete ErrorInfo, and a
// message that names all of `mentions`.
MATCHER_P2(Refused, reason, mentions,
           "is refused with " + NameOfReason(reason) + " and names " +
               absl::StrJoin(std::vector<std::string>(mentions), ", ")) {
  const Refusal& refusal = arg.refusal;
  if (refusal.code != CodeOfReason(reason) || refusal.reason != NameOfReason(reason)) return false;
  if (refusal.domain != "tidemark") {
    *result_listener << "its ErrorInfo has domain \"" << refusal.domain << "\"";
    return false;
  }
  for (const std::string& mention : std::vector<std::string>(mentions)) {
    if (refusal.message.find(mention) == std::string::npos) {
      *result_listener << "its message does not name \"" << mention << "\"";
      return false;
    }
  }
  return true;
}

MATCHER(Accepted, "is accepted") { return arg.refusal.ok(); }

// Of a string of bytes: equal to another; if not, says where they differ.
MATCHER_P(HoldsSameAs, bytes, "holds the same bytes") {
  const Ranges differences = Differences(arg, bytes);
  if (differences.empty()) return true;
  *result_listener << "which differs in " << ToString(differences);
  return false;
}

// Of an image: exactly these ranges lie in it and not below.
MATCHER_P(AllocatesExactly, ranges, "allocates exactly " + ToString(Merged(Ranges(ranges)))) {
  const Ranges allocated = arg.Allocated();
  if (allocated == Merged(Ranges(ranges))) return true;
  *result_listener << "which allocates " << ToString(allocated);
  return false;
}

// Of an image: qemu-img check finds neither errors nor leaks.
MATCHER(IsSound, "is sound") {
  const std::string complaints = arg.Complaints();
  *result_listener << complaints;
  return complaints.empty();
}

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_MATCHERS_H_
