// What an error says of itself beside code and message: read, and added to on its way up.
#ifndef ENGINE_BASE_ERROR_METADATA_H_
#define ENGINE_BASE_ERROR_METADATA_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tidemark {

// The same error with one more pair at the end of its metadata (DetailsOf in error.h). A status
// without details comes back as it is. Neither key nor value holds a NUL.
absl::Status WithMetadata(const absl::Status& status, absl::string_view key,
                          absl::string_view value);

// The first value under `key`; empty if there is none.
std::string MetadataOf(const absl::Status& status, absl::string_view key);

}  // namespace tidemark

#endif  // ENGINE_BASE_ERROR_METADATA_H_
