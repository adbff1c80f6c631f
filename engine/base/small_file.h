// Files of a few megabytes at most that are read in one go: certificates, lists of requests. Any
// thread; blocks as the disk does.
#ifndef ENGINE_BASE_SMALL_FILE_H_
#define ENGINE_BASE_SMALL_FILE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace tidemark {

// All that the file holds. NOT_FOUND (kFileNotFound): it cannot be opened or read.
// INVALID_ARGUMENT (kInvalidField): it holds more than `bytes_max`, of which no more is read.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max);

}  // namespace tidemark

#endif  // ENGINE_BASE_SMALL_FILE_H_
