#include "engine/base/small_file.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max) {
  std::ifstream file(path, std::ios::binary);
  std::string text(bytes_max + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  // At the end of a file that could be read, only `fail` and `eof` are set.
  if (!file.is_open() || file.bad()) {
    return Error(Reason::kFileNotFound, absl::StrCat("Cannot read '", path, "'"), {{"file", path}});
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > bytes_max) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("'", path, "' is larger than ", bytes_max, " bytes"),
                 {{"file", path}});
  }
  return text;
}

}  // namespace tidemark
