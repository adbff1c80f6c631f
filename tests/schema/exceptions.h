// What the coverage test lets pass, each with its reason. Every entry must be needed by a QEMU at
// hand: the test fails for one that is not.
#ifndef TESTS_SCHEMA_EXCEPTIONS_H_
#define TESTS_SCHEMA_EXCEPTIONS_H_

#include "absl/types/span.h"

namespace tidemark::test {

struct Exception {
  enum Kind {
    // QEMU has it, the protos do not.
    kMissing,
    // The protos have it, the newest QEMU does not.
    kUnknown,
    // Both have it, and not the same.
    kDifferent,
  };

  Kind kind;
  // As coverage.h names it; a '*' at the end stands for any rest.
  const char* item;
  const char* reason;
};

absl::Span<const Exception> Exceptions();

}  // namespace tidemark::test

#endif  // TESTS_SCHEMA_EXCEPTIONS_H_
