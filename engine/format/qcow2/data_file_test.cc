// An image whose clusters lie in another file than its tables: not opened from any header yet, but
// every part of an open image knows the two apart.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/format/qcow2/core.h"
#include "engine/format/qcow2/create.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;
constexpr uint64_t kDiskBytes = 64 * kCluster;

// Writes down what changes, in the order in which it does.
class Recording final : public storage::ForwardingStorage {
 public:
  Recording(std::shared_ptr<storage::Storage> next, std::string name, std::vector<std::string>* log)
      : ForwardingStorage(std::move(next)), name_(std::move(name)), log_(*log) {}

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    log_.push_back(name_ + " written");
    return next().Write(offset_bytes, data, options);
  }
  absl::Status Flush() override {
    log_.push_back(name_ + " flushed");
    return next().Flush();
  }

 private:
  const std::string name_;
  std::vector<std::string>& log_;
};

class DataFileTest : public testing::Test {
 protected:
  void SetUp() override {
    CreateOptions options;
    options.size_bytes = kDiskBytes;
    options.cluster_size_bytes = kCluster;
    ASSERT_EQ(Create(*file_, options), absl::OkStatus());
    Reopen();
  }
  void Reopen() {
    core_ = nullptr;
    auto header = ReadHeader(*file_);
    ASSERT_EQ(header.status(), absl::OkStatus());
    core_ = std::make_unique<Core>(std::make_shared<Recording>(file_, "tables", &log_),
                                   std::make_shared<Recording>(data_, "data", &log_),
                                   *std::move(header), OpenOptions());
    ASSERT_EQ(core_->Load(), absl::OkStatus());
    log_.clear();
  }
  void Write(uint64_t offset_bytes, const std::string& text) {
    const auto guard = core_->epochs.Enter();
    ASSERT_EQ(WriteDisk(*core_, offset_bytes,
                        {reinterpret_cast<const std::byte*>(text.data()), text.size()}),
              absl::OkStatus());
  }
  std::string Read(Range range) {
    std::string text(range.length_bytes, '?');
    const auto guard = core_->epochs.Enter();
    EXPECT_EQ(ReadDisk(*core_, range.offset_bytes,
                       {reinterpret_cast<std::byte*>(text.data()), text.size()}),
              absl::OkStatus());
    return text;
  }

  const std::shared_ptr<MemoryStorage> file_ = std::make_shared<MemoryStorage>(0);
  const std::shared_ptr<MemoryStorage> data_ = std::make_shared<MemoryStorage>(0);
  std::vector<std::string> log_;
  std::unique_ptr<Core> core_;
};

TEST_F(DataFileTest, HoldsWhatTheDiskHoldsAndNothingElse) {
  const std::string text(3 * kCluster, 'g');
  Write(5 * kCluster, text);
  ASSERT_EQ(core_->checkpointer->Run(), absl::OkStatus());
  EXPECT_NE(data_->Contents().find(text), std::string::npos);
  EXPECT_EQ(file_->Contents().find(std::string(512, 'g')), std::string::npos);
  Reopen();
  EXPECT_TRUE(Read({5 * kCluster, 3 * kCluster}) == text);
  EXPECT_TRUE(Read({0, kCluster}) == std::string(kCluster, '\0'));
  // In place.
  Write(6 * kCluster, std::string(512, 'h'));
  EXPECT_EQ(log_, std::vector<std::string>{"data written"});
}

TEST_F(DataFileTest, IsDurableBeforeATableRefersToIt) {
  Write(0, std::string(kCluster, 'g'));
  log_.clear();
  ASSERT_EQ(core_->checkpointer->Run(), absl::OkStatus());
  const std::vector<std::string> end(log_.end() - 5, log_.end());
  EXPECT_EQ(end, (std::vector<std::string>{"data flushed", "tables flushed", "tables written",
                                           "data flushed", "tables flushed"}));
}

TEST_F(DataFileTest, TakesZeroesThatAreWritten) {
  const std::string text(2 * kCluster, 'g');
  Write(0, text);
  log_.clear();
  const auto guard = core_->epochs.Enter();
  ASSERT_EQ(ZeroDisk(*core_, {100, 1000}, {}), absl::OkStatus());
  EXPECT_EQ(log_, std::vector<std::string>{"data written"});
  EXPECT_TRUE(Read({0, kCluster}).substr(100, 1000) == std::string(1000, '\0'));
}

}  // namespace
}  // namespace tidemark::qcow2
