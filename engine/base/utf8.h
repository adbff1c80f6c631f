// Text from outside (images, folders, other programs) as valid UTF-8: a protobuf string that is not
// makes the whole message one that most clients cannot read. Any thread.
#ifndef ENGINE_BASE_UTF8_H_
#define ENGINE_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tidemark {

// Bytes of the character that `text`, which is not empty, begins with; 0 if it begins with none.
size_t Utf8CharacterLength(absl::string_view text);

bool IsUtf8(absl::string_view text);

// `text` with U+FFFD in place of each sequence that is no character, as QMP shows it. Texts that
// differ may become the same.
std::string ToUtf8(absl::string_view text);

}  // namespace tidemark

#endif  // ENGINE_BASE_UTF8_H_
