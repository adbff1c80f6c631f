// Writing only where the image holds nothing: how data is copied up while guests write.
#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kCluster = 65536;
// The last cluster is partial.
constexpr uint64_t kSize = 60 * kCluster + 1024;

storage::ConstBytes AsBytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

std::string ReadString(storage::Storage& disk, Range range) {
  std::string text(range.length_bytes, '?');
  EXPECT_EQ(disk.Read(range.offset_bytes, {reinterpret_cast<std::byte*>(text.data()), text.size()}),
            absl::OkStatus());
  return text;
}

class UnallocatedTest : public ::testing::TestWithParam<int> {
 protected:
  UnallocatedTest() {
    auto file = std::make_shared<MemoryStorage>(0);
    CreateOptions options{.size_bytes = kSize};
    options.version = static_cast<uint32_t>(GetParam());
    EXPECT_EQ(Create(*file, options), absl::OkStatus());
    auto image = Image::Open(file, {});
    EXPECT_EQ(image.status(), absl::OkStatus());
    image_ = *std::move(image);
    below_ = MemoryStorage::Of(std::string(kSize, 'b'));
    image_->SetBacking(below_);
  }

  int DepthAt(uint64_t offset_bytes) { return image_->Map({offset_bytes, 512})->depth; }

  std::unique_ptr<Image> image_;
  std::shared_ptr<MemoryStorage> below_;
};

// A disk that becomes shorter between the question how long it is, and a request.
class Shrinking final : public storage::ForwardingStorage {
 public:
  Shrinking(std::shared_ptr<storage::Storage> next, uint64_t told_once)
      : ForwardingStorage(std::move(next)), told_bytes_(told_once) {}
  uint64_t size_bytes() const override {
    return told_bytes_ > 0 ? std::exchange(told_bytes_, 0) : ForwardingStorage::size_bytes();
  }

 private:
  mutable uint64_t told_bytes_;
};

TEST_P(UnallocatedTest, ABackingDiskMayBecomeShorterAtAnyMoment) {
  const auto shorter = MemoryStorage::Of(std::string(2 * kCluster, 's'));
  const auto gone = std::make_shared<MemoryStorage>(0);
  for (const auto& next : {shorter, gone}) {
    const std::string expected =
        std::string(next->size_bytes(), 's') + std::string(4 * kCluster - next->size_bytes(), '\0');
    image_->SetBacking(std::make_shared<Shrinking>(next, kSize));
    EXPECT_EQ(ReadString(*image_, {0, 4 * kCluster}), expected);
    image_->SetBacking(std::make_shared<Shrinking>(next, kSize));
    const auto extent = image_->Map({3 * kCluster, kCluster});
    ASSERT_EQ(extent.status(), absl::OkStatus());
    EXPECT_EQ(extent->content, storage::Extent::Content::kZero);
    image_->SetBacking(std::make_shared<Shrinking>(next, kSize));
    EXPECT_EQ(image_->PlaceRead({3 * kCluster, kCluster}).status(), absl::OkStatus());
  }
  image_->ForgetBacking();
  EXPECT_EQ(DepthAt(0), 0);
}

TEST_P(UnallocatedTest, WhatTheImageHoldsIsKeptAndTheRestIsWritten) {
  ASSERT_EQ(image_->Write(kCluster + 5, AsBytes("guest")), absl::OkStatus());
  ASSERT_EQ(image_->WriteZeroes({4 * kCluster, 2 * kCluster}), absl::OkStatus());
  ASSERT_EQ(image_->Write(7 * kCluster, AsBytes(std::string(kCluster, 'c')), {.compressed = true}),
            absl::OkStatus());
  std::string expected = ReadString(*image_, {0, kSize});
  ASSERT_EQ(image_->Write(0, AsBytes(std::string(kSize, 'n')), {.only_unallocated = true}),
            absl::OkStatus());
  for (uint64_t at = 0; at < kSize; at += kCluster) {
    const uint64_t cluster = at / kCluster;
    const bool held = cluster == 1 || cluster == 4 || cluster == 5 || cluster == 7;
    const uint64_t length = std::min(kCluster, kSize - at);
    if (!held) expected.replace(at, length, length, 'n');
    EXPECT_EQ(DepthAt(at), 1) << cluster;
  }
  EXPECT_TRUE(ReadString(*image_, {0, kSize}) == expected);
}

TEST_P(UnallocatedTest, ZeroesToo) {
  ASSERT_EQ(image_->Write(kCluster + 5, AsBytes("guest")), absl::OkStatus());
  std::string expected = ReadString(*image_, {0, kSize});
  ASSERT_EQ(image_->WriteZeroes({0, kSize}, {.only_unallocated = true}), absl::OkStatus());
  expected.replace(0, kCluster, kCluster, '\0');
  expected.replace(2 * kCluster, kSize - 2 * kCluster, kSize - 2 * kCluster, '\0');
  EXPECT_TRUE(ReadString(*image_, {0, kSize}) == expected);
  for (uint64_t at = 0; at < kSize; at += kCluster) EXPECT_EQ(DepthAt(at), 1);
}

TEST_P(UnallocatedTest, PartsOfClustersAreRefused) {
  for (const Range range : {Range{512, kCluster}, Range{0, kCluster + 512}}) {
    const absl::Status written =
        image_->Write(range.offset_bytes, AsBytes(std::string(range.length_bytes, 'n')),
                      {.only_unallocated = true});
    EXPECT_EQ(DetailsOf(written)->reason, Reason::kInvalidField) << written;
    const absl::Status zeroed = image_->WriteZeroes(range, {.only_unallocated = true});
    EXPECT_EQ(DetailsOf(zeroed)->reason, Reason::kInvalidField) << zeroed;
  }
  EXPECT_TRUE(image_->limits().can_write_unallocated);
}

// Guests write sectors that are theirs alone, all over the clusters that are being copied up.
TEST_P(UnallocatedTest, NoWriteOfAGuestIsLostToCopyingUp) {
  constexpr uint64_t kSector = 512;
  constexpr int kGuests = 3;
  std::vector<std::string> models(kGuests, ReadString(*image_, {0, kSize}));
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int guest = 0; guest < kGuests; ++guest) {
    threads.emplace_back([&, guest] {
      std::mt19937_64 random(guest);
      while (!stop.load()) {
        const uint64_t sector = random() % (kSize / kSector) / kGuests * kGuests + guest;
        const uint64_t at = sector * kSector;
        if (at >= kSize) continue;
        const std::string data(kSector, static_cast<char>('0' + random() % 10));
        ASSERT_EQ(image_->Write(at, AsBytes(data)), absl::OkStatus());
        models[guest].replace(at, kSector, data);
      }
    });
  }
  for (int copier = 0; copier < 2; ++copier) {
    threads.emplace_back([&, copier] {
      std::mt19937_64 random(100 + copier);
      for (int i = 0; i < 300; ++i) {
        const uint64_t first = random() % 61;
        const uint64_t begin = first * kCluster;
        const uint64_t end = std::min(kSize, begin + (1 + random() % 8) * kCluster);
        const std::string data = ReadString(*below_, Range::FromTo(begin, end));
        ASSERT_EQ(
            image_->Write(begin, AsBytes(data), {.unchanged = true, .only_unallocated = true}),
            absl::OkStatus());
      }
      stop = true;
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string held = ReadString(*image_, {0, kSize});
  for (uint64_t at = 0; at < kSize; at += kSector) {
    const std::string& model = models[at / kSector % kGuests];
    ASSERT_EQ(held.compare(at, kSector, model, at, kSector), 0) << at;
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, UnallocatedTest, ::testing::Values(2, 3),
                         [](const ::testing::TestParamInfo<int>& info) {
                           return "V" + std::to_string(info.param);
                         });

}  // namespace
}  // namespace tidemark::qcow2
