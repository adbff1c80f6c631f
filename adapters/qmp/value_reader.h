// Cuts what a socket gives into the values of JSON that QMP consists of. One thread.
//
// A monitor sends each value on a line of its own, or, with pretty=on, over many lines; so values
// are cut where their braces close. What begins no object is cut at the end of its line, and a
// brace that opens at the beginning of a line begins a value, whatever was before it: so nothing
// that a peer sends keeps its next value from being seen. Whether a value is valid is not judged
// here.
//
// Values that came whole are never copied; of a half one the beginning is kept. Between values an
// instance holds no memory to speak of.
#ifndef ADAPTERS_QMP_VALUE_READER_H_
#define ADAPTERS_QMP_VALUE_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "adapters/qmp/limits.h"

namespace tidemark::qmp {

class ValueReader {
 public:
  explicit ValueReader(size_t bytes_max = kLineBytesMax) : bytes_max_(bytes_max) {}

  // Takes bytes from the front of `bytes`: the next value without the blanks around it, good until
  // the next call and while the bytes last. Absent: all of them are taken and the value is not
  // complete. RESOURCE_EXHAUSTED (kLimitReached): it is too long; nothing may be read after that.
  absl::StatusOr<absl::optional<absl::string_view>> Next(absl::string_view* bytes);

  // The value that Next has just returned, as the caller's own: without a copy if it came in
  // pieces.
  std::string Take();

  // Bytes of the value that is not complete.
  size_t half_bytes() const { return given_out_ ? 0 : half_.size(); }
  // Values given out so far.
  uint64_t count() const { return count_; }

 private:
  // How many of `bytes` belong to the open value; npos: all, and it is not complete.
  size_t EndOf(absl::string_view bytes);

  size_t bytes_max_;
  std::string half_;
  absl::string_view value_;
  uint64_t count_ = 0;
  // `half_` has become a value that was given out; it is dropped with the next call.
  bool given_out_ = false;

  // Of the open value.
  bool is_open_ = false;
  bool is_object_ = false;
  bool in_string_ = false;
  bool is_escaped_ = false;
  bool at_line_begin_ = false;
  size_t depth_ = 0;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_VALUE_READER_H_
