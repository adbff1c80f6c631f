// A qcow2 image of any bytes: opened, read, mapped, checked and written.
#include <cstdio>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/qcow2_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using namespace tidemark;
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size_bytes);
  const absl::Status status = qcow2::Exercise(*storage::MemoryStorage::Of(bytes), size_bytes);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  CHECK(status.ok());
  return 0;
}
