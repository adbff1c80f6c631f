// The golden images of tests/golden: made by QEMU, with what QEMU says about them. Tests only.
#ifndef ENGINE_FORMAT_QCOW2_TESTING_GOLDEN_H_
#define ENGINE_FORMAT_QCOW2_TESTING_GOLDEN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::qcow2 {

struct GoldenImage {
  std::string name;
  // False for images that must be refused; the rest is meaningless then.
  bool opens = false;
  // What qemu-img check finds.
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t virtual_bytes = 0;
  std::string contents_sha256;
};

struct GoldenBitmap {
  std::string image;
  std::string name;
  uint64_t granularity_bytes = 0;
  bool in_use = false;
  bool enabled = false;
  std::string sha256;  // As x-debug-block-dirty-bitmap-sha256 prints it; "-" if in use.
};

// All of them, in a fixed order.
std::vector<GoldenImage> GoldenImages();
std::vector<GoldenBitmap> GoldenBitmaps();

// The file of the image `name`, to be changed at will.
std::shared_ptr<storage::MemoryStorage> LoadGolden(absl::string_view name);

// The digest in hexadecimal.
std::string Sha256(absl::string_view bytes);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_TESTING_GOLDEN_H_
