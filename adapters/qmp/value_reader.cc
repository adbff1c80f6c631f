#include "adapters/qmp/value_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::qmp {

absl::StatusOr<absl::optional<absl::string_view>> ValueReader::Next(absl::string_view* bytes) {
  if (given_out_) {
    std::string().swap(half_);
    given_out_ = false;
  }
  if (!is_open_) {
    *bytes = absl::StripLeadingAsciiWhitespace(*bytes);
    if (bytes->empty()) return absl::nullopt;
    is_open_ = true;
    is_object_ = bytes->front() == '{';
    in_string_ = is_escaped_ = at_line_begin_ = false;
    depth_ = 0;
  }
  const size_t end = EndOf(*bytes);
  const absl::string_view taken = bytes->substr(0, end);
  if (taken.size() > bytes_max_ - half_.size()) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("a value of more than ", bytes_max_, " bytes"));
  }
  bytes->remove_prefix(taken.size());
  if (end == absl::string_view::npos) {
    absl::StrAppend(&half_, taken);
    return absl::nullopt;
  }
  is_open_ = false;
  ++count_;
  if (half_.empty()) {
    value_ = absl::StripTrailingAsciiWhitespace(taken);
  } else {
    absl::StrAppend(&half_, taken);
    given_out_ = true;
    value_ = absl::StripTrailingAsciiWhitespace(half_);
  }
  return value_;
}

size_t ValueReader::EndOf(absl::string_view bytes) {
  if (!is_object_) return bytes.find('\n');
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (in_string_) {
      if (is_escaped_) {
        is_escaped_ = false;
      } else if (c == '\\') {
        is_escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      } else if (c == '\n') {
        return i;  // No string goes on behind the end of its line.
      }
      continue;
    }
    switch (c) {
      case '"':
        in_string_ = true;
        break;
      case '{':
        if (at_line_begin_) return i;
        ++depth_;
        break;
      case '[':
        ++depth_;
        break;
      case '}':
      case ']':
        if (--depth_ == 0) return i + 1;
        break;
      default:
        break;
    }
    at_line_begin_ = c == '\n';
  }
  return absl::string_view::npos;
}

std::string ValueReader::Take() {
  if (!given_out_) return std::string(value_);
  half_.resize(value_.size());
  return std::exchange(half_, std::string());
}

}  // namespace tidemark::qmp
