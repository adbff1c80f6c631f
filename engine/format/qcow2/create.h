// Makes a new, empty qcow2 image: what blockdev-create and drive-backup put into a file before
// anybody opens it. Blocks on the file, so workers only.
#ifndef ENGINE_FORMAT_QCOW2_CREATE_H_
#define ENGINE_FORMAT_QCOW2_CREATE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/format/qcow2/layout.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

// The options of QEMU's blockdev-create for qcow2, with its defaults.
struct CreateOptions {
  enum class Preallocation {
    kOff,       // Clusters get their place when they are first written.
    kMetadata,  // All have their place; the file is sparse.
    kFalloc,    // The same, and the space is reserved.
    kFull,      // The same, and zeroes are written.
  };

  uint64_t size_bytes = 0;
  uint32_t version = 3;
  uint64_t cluster_size_bytes = 65536;
  uint32_t refcount_bits = 16;
  // Recorded as they are, and not opened. Empty: no backing file.
  std::string backing_file;
  absl::optional<std::string> backing_format;
  Preallocation preallocation = Preallocation::kOff;
  bool lazy_refcounts = false;
  CompressionType compression_type = CompressionType::kZlib;

  // What we do not have. Setting one of them is refused by its name.
  absl::optional<std::string> data_file;
  bool data_file_raw = false;
  bool extended_l2 = false;
  absl::optional<std::string> encrypt_format;
};

// What Create would refuse without touching the file: kInvalidField naming the value,
// kInvalidCombination naming both, kFeatureUnsupported naming the option.
absl::Status CheckCreateOptions(const CreateOptions& options);

// Replaces whatever `file` holds by a new image, durably. A file gets exactly the length the image
// needs; a device must be long enough. After a failure the file holds no valid image. Errors: those
// of CheckCreateOptions, kNoSpace, and the file's own.
absl::Status Create(storage::Storage& file, const CreateOptions& options);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_CREATE_H_
