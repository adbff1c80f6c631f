// What a file looks like: the marks by which images of every format that QEMU makes or reads can be
// told from plain bytes. A guess, for a guest can write any of them to the first or last sector of
// a raw disk: so nothing is opened by it unasked. Plain functions; any thread.
#ifndef ENGINE_FORMAT_PROBE_PROBE_H_
#define ENGINE_FORMAT_PROBE_PROBE_H_

#include <cstddef>

#include "absl/strings/string_view.h"
#include "engine/storage/storage.h"

namespace tidemark::probe {

// How much of either end of a file is looked at.
inline constexpr size_t kHeadBytes = 2048;
inline constexpr size_t kTailBytes = 512;

// The format, by the name of its QEMU driver ("vmdk"), or empty for a file without any known mark.
// `head` and `tail` are the first and last bytes of the file: kHeadBytes and kTailBytes of them, or
// all that there are.
absl::string_view FormatOf(storage::ConstBytes head, storage::ConstBytes tail);

}  // namespace tidemark::probe

#endif  // ENGINE_FORMAT_PROBE_PROBE_H_
