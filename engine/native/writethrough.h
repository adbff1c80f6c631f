// Makes every write durable before it is acknowledged: an export's `writethrough`. Thread rule: as
// every storage.
#ifndef ENGINE_NATIVE_WRITETHROUGH_H_
#define ENGINE_NATIVE_WRITETHROUGH_H_

#include "engine/base/status_macros.h"
#include "engine/storage/storage.h"

namespace tidemark::native {

class WritethroughStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    RETURN_IF_ERROR(next().Write(offset_bytes, data, options));
    return next().Flush();
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    RETURN_IF_ERROR(next().WriteZeroes(range, options));
    return next().Flush();
  }
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_WRITETHROUGH_H_
