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
    // In a request QEMU can do without it, and the protos send zero, false and "" as if it were
    // absent.
    kMerged,
  };

  Kind kind;
  // As coverage.h names it; one '*' stands for anything.
  const char* item;
  const char* reason;
};

absl::Span<const Exception> Exceptions();

}  // namespace tidemark::test

#endif  // TESTS_SCHEMA_EXCEPTIONS_H_
