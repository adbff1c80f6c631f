// Makes every request take a while: null-co's latency-ns, for measuring what stands above it.
// Thread rule: as every storage.
#ifndef ENGINE_NATIVE_DRIVERS_LATENCY_STORAGE_H_
#define ENGINE_NATIVE_DRIVERS_LATENCY_STORAGE_H_

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/storage/storage.h"

namespace tidemark::native {

class LatencyStorage final : public storage::ForwardingStorage {
 public:
  LatencyStorage(std::shared_ptr<storage::Storage> next, absl::Duration latency)
      : ForwardingStorage(std::move(next)), latency_(latency) {}

  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    absl::SleepFor(latency_);
    return next().Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    absl::SleepFor(latency_);
    return next().Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    absl::SleepFor(latency_);
    return next().WriteZeroes(range, options);
  }
  absl::Status Flush() override {
    absl::SleepFor(latency_);
    return next().Flush();
  }

 private:
  const absl::Duration latency_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DRIVERS_LATENCY_STORAGE_H_
