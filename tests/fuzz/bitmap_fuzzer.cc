// A directory of bitmaps of any bytes in an image that is otherwise sound: loaded, stored again,
// removed. The first four bytes are the count that the header tells, the rest is the directory, and
// after it come the tables that it may point to.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/types/optional.h"
#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/format/qcow2/bitmap_directory.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/header.h"
#include "engine/storage/memory_storage.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/qcow2_exercise.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr uint64_t kClusterBytes = 512;
constexpr uint64_t kDirectoryOffsetBytes = 64 * kClusterBytes;

// An empty image whose header points to a directory at kDirectoryOffsetBytes.
std::string ImageWithDirectory(uint32_t count, uint64_t directory_bytes) {
  storage::MemoryStorage file(0);
  CreateOptions options;
  options.size_bytes = kDiskBytes;
  options.cluster_size_bytes = kClusterBytes;
  CHECK(Create(file, options).ok());
  auto header = ReadHeader(file);
  CHECK(header.ok());
  SetBitmapsExtension(BitmapsExtension{count, {kDirectoryOffsetBytes, directory_bytes}}, &*header);
  const auto bytes = SerializeHeader(*header);
  CHECK(bytes.ok());
  CHECK(file.Write(0, *bytes, {}).ok());
  return file.Contents();
}

}  // namespace
}  // namespace tidemark::qcow2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using namespace tidemark;
  using namespace tidemark::qcow2;
  if (size_bytes < 8) return 0;
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  const uint32_t count = LoadBigEndian<uint32_t>(bytes);
  const uint64_t directory_bytes = LoadBigEndian<uint32_t>(bytes + 4);
  std::string image = ImageWithDirectory(count, directory_bytes);
  image.resize(std::max<size_t>(image.size(), kDirectoryOffsetBytes + size_bytes - 8));
  std::memcpy(image.data() + kDirectoryOffsetBytes, data + 8, size_bytes - 8);
  const absl::Status status = Exercise(*storage::MemoryStorage::Of(image), size_bytes);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  CHECK(status.ok());
  return 0;
}
