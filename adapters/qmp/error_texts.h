// QEMU's texts of refusal, as data: what error_table.h matches against. Private to it.
#ifndef ADAPTERS_QMP_ERROR_TEXTS_H_
#define ADAPTERS_QMP_ERROR_TEXTS_H_

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/base/error.h"

namespace tidemark::qmp {

struct ErrorText {
  // The whole text, or all of it behind a "<something>: " that a layer of QEMU put before it.
  // "<node>" stands for anything, and is metadata under that key; "<>" for anything.
  const char* pattern;
  // Absent: the text ends with that of an errno, which decides.
  absl::optional<Reason> reason;
  // The field of the request that is at fault, as the proto spells it, if the text does not give
  // it.
  const char* field = "";
};

// The first row that matches counts.
absl::Span<const ErrorText> ErrorTexts();

struct ErrnoText {
  const char* text;
  Reason reason;
};

// What strerror says, for those numbers that mean more than an I/O error.
absl::Span<const ErrnoText> ErrnoTexts();

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_ERROR_TEXTS_H_
