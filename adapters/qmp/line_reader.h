// Cuts what a socket gives into lines. One thread.
//
// Lines that came whole are never copied; of a half one the beginning is kept. Between lines an
// instance holds no memory to speak of.
#ifndef ADAPTERS_QMP_LINE_READER_H_
#define ADAPTERS_QMP_LINE_READER_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "adapters/qmp/limits.h"

namespace tidemark::qmp {

class LineReader {
 public:
  explicit LineReader(size_t line_bytes_max = kLineBytesMax) : line_bytes_max_(line_bytes_max) {}

  // Takes bytes from the front of `bytes`: the next line without its end ("\n" or "\r\n"), good
  // until the next call and while the bytes last. Absent: all of them are taken and the line is not
  // complete. RESOURCE_EXHAUSTED (kLimitReached): it is too long; nothing may be read after that.
  absl::StatusOr<absl::optional<absl::string_view>> Next(absl::string_view* bytes);

  // The line that Next has just returned, as the caller's own: without a copy if it came in pieces.
  std::string TakeLine();

  // Bytes of the line that is not complete.
  size_t half_bytes() const { return given_out_ ? 0 : half_.size(); }

 private:
  size_t line_bytes_max_;
  std::string half_;
  absl::string_view line_;
  // `half_` has become a line that was given out; it is dropped with the next call.
  bool given_out_ = false;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_LINE_READER_H_
