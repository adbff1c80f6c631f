#include "adapters/qmp/line_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"

namespace tidemark::qmp {

absl::StatusOr<absl::optional<absl::string_view>> LineReader::Next(absl::string_view* bytes) {
  if (given_out_) {
    std::string().swap(half_);
    given_out_ = false;
  }
  const size_t end = bytes->find('\n');
  const absl::string_view taken = bytes->substr(0, end);
  if (taken.size() > line_bytes_max_ - half_.size()) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("a line of more than ", line_bytes_max_, " bytes"));
  }
  bytes->remove_prefix(end == absl::string_view::npos ? bytes->size() : end + 1);
  if (end == absl::string_view::npos) {
    absl::StrAppend(&half_, taken);
    return absl::nullopt;
  }
  if (half_.empty()) {
    line_ = absl::StripSuffix(taken, "\r");
  } else {
    absl::StrAppend(&half_, taken);
    given_out_ = true;
    line_ = absl::StripSuffix(half_, "\r");
  }
  return line_;
}

std::string LineReader::TakeLine() {
  if (!given_out_) return std::string(line_);
  half_.resize(line_.size());
  return std::exchange(half_, std::string());
}

}  // namespace tidemark::qmp
