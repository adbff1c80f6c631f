// A copier between two disks in memory, on one thread, with a model of what the source held.
#ifndef ENGINE_COPY_COPIER_WORLD_H_
#define ENGINE_COPY_COPIER_WORLD_H_

#include <atomic>
#include <memory>
#include <string>

#include "engine/base/clock.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/copier.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::copy {

using storage::FailingStorage;
using storage::MemoryStorage;
using storage::Verb;

inline constexpr uint64_t kCluster = 64 * 1024;
inline constexpr uint64_t kUnlimited = ~uint64_t{0};

inline Range Clusters(uint64_t first, uint64_t count) {
  return {first * kCluster, count * kCluster};
}

inline std::string Pattern(size_t length, int seed) {
  std::string text(length, '\0');
  uint32_t value = seed * 2654435761u + 1;
  for (char& c : text) {
    value = value * 1664525 + 1013904223;
    c = static_cast<char>(value >> 24 | 1);
  }
  return text;
}

inline storage::ConstBytes AsBytes(const std::string& text) {
  return storage::ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// Counts what is asked of a disk.
class CountingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    read_bytes += buffer.size();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    written_bytes += data.size();
    if (options.compressed) compressed_bytes += data.size();
    return ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    zeroed_bytes += range.length_bytes;
    return ForwardingStorage::WriteZeroes(range, options);
  }
  absl::Status Flush() override {
    ++flush_count;
    return ForwardingStorage::Flush();
  }
  std::atomic<uint64_t> read_bytes = 0;
  std::atomic<uint64_t> written_bytes = 0;
  std::atomic<uint64_t> compressed_bytes = 0;
  std::atomic<uint64_t> zeroed_bytes = 0;
  std::atomic<int> flush_count = 0;
};

class CopierTest : public ::testing::Test {
 protected:
  // A disk of so many clusters of data.
  void MakeDisks(uint64_t cluster_count, uint64_t tail_bytes = 0) {
    const uint64_t size = cluster_count * kCluster + tail_bytes;
    before_ = Pattern(size, 1);
    memory_ = MemoryStorage::Of(before_);
    target_memory_ = std::make_shared<MemoryStorage>(size);
    bad_source_ = std::make_shared<FailingStorage>(memory_);
    bad_target_ = std::make_shared<FailingStorage>(target_memory_);
    source_ = std::make_shared<CountingStorage>(bad_source_);
    target_ = std::make_shared<CountingStorage>(bad_target_);
    to_copy_ = std::make_unique<bitmap::DirtyBitmap>(size, kCluster);
    to_copy_->SetAll();
  }

  void MakeCopy() {
    copy_ = BlockCopy::Make(source_, target_, std::move(to_copy_), options_, workers_, &clock_);
    copy_->set_waker([this] { ++wake_count_; });
  }

  // As a guest behind a copy-before-write filter.
  void GuestWrites(Range range, int seed) {
    ASSERT_TRUE(copy_->Capture(range).ok());
    const std::string data = Pattern(range.length_bytes, seed);
    ASSERT_TRUE(memory_->Write(range.offset_bytes, AsBytes(data), {}).ok());
  }

  // Steps until the copy is done or in trouble.
  absl::StatusOr<StepResult> Run() {
    for (int i = 0; i < 100000; ++i) {
      absl::StatusOr<StepResult> result = copy_->Step(kUnlimited);
      if (!result.ok() || result->io_error.has_value() ||
          result->next != StepResult::Next::kAgain) {
        return result;
      }
    }
    return absl::InternalError("the copy goes on for ever");
  }
  void RunToEnd() {
    const absl::StatusOr<StepResult> result = Run();
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_FALSE(result->io_error.has_value()) << result->io_error->status;
    ASSERT_EQ(result->next, StepResult::Next::kDone);
  }

  std::string before_;
  std::shared_ptr<MemoryStorage> memory_;
  std::shared_ptr<MemoryStorage> target_memory_;
  std::shared_ptr<FailingStorage> bad_source_;
  std::shared_ptr<FailingStorage> bad_target_;
  std::shared_ptr<CountingStorage> source_;
  std::shared_ptr<CountingStorage> target_;
  std::unique_ptr<bitmap::DirtyBitmap> to_copy_;
  CopyOptions options_;
  CopyWorkers workers_;
  ManualClock clock_;
  std::shared_ptr<BlockCopy> copy_;
  std::atomic<int> wake_count_ = 0;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_COPIER_WORLD_H_
