// Which driver opens a file whose format nobody has said.
//
// A guess can be made for whoever wrote the file, and that may be a guest: its raw disk then begins
// as a qcow2 image does, whose header names any file of the host as its backing file. So a file
// with the mark of a format is refused, and the caller told what to say; the service may be told to
// believe such marks (`probe_formats`), but what the header then names is still not opened.
#ifndef ENGINE_NATIVE_FORMAT_CHOICE_H_
#define ENGINE_NATIVE_FORMAT_CHOICE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/storage/file.h"

namespace tidemark::native {

struct ProbeRules {
  // Whether a mark may decide.
  bool probe_formats = false;
};

// "raw" for a file without the mark of any format; "qcow2" if it looks like that and `rules` let it
// be. Else IMAGE_FORMAT, or FEATURE_UNSUPPORTED for a format that this engine does not have; both
// name the file and what it looks like, and end with `remedy`, which is what the caller can do.
// Blocks: a worker.
absl::StatusOr<std::string> ChooseFormat(storage::FileSystem& files, const ProbeRules& rules,
                                         const std::string& path, absl::string_view remedy);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_FORMAT_CHOICE_H_
