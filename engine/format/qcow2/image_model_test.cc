// Random requests against a string as disk, over all the shapes an image can have; QEMU judges
// every image that comes of it.

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

struct Shape {
  uint32_t version;
  uint64_t cluster_bytes;
  uint32_t refcount_bits;
  CompressionType compression;
  bool backing;
};

std::string NameOf(const testing::TestParamInfo<Shape>& info) {
  const Shape& shape = info.param;
  return absl::StrCat("V", shape.version, "Cluster", shape.cluster_bytes, "Refcount",
                      shape.refcount_bits,
                      shape.compression == CompressionType::kZstd ? "Zstd" : "Zlib",
                      shape.backing ? "Backing" : "");
}

class ImageModel : public testing::TestWithParam<Shape> {
 protected:
  uint64_t Random(uint64_t end) {
    return std::uniform_int_distribution<uint64_t>(0, end - 1)(random_);
  }

  std::string RandomData(uint64_t length) {
    // Half of it shrinks well.
    std::string data(length, static_cast<char>('a' + Random(26)));
    if (Random(2) == 0) {
      for (char& c : data) c = static_cast<char>(random_());
    }
    return data;
  }

  void Open() {
    auto image = Image::Open(file_, {.discard_unmaps = Random(2) == 0,
                                     .l2_cache_bytes = Random(2) == 0 ? 0 : kL2CacheBytesDefault});
    ASSERT_EQ(image.status(), absl::OkStatus());
    image_ = *std::move(image);
    if (GetParam().backing) image_->SetBacking(MemoryStorage::Of(backing_));
  }

  Range RandomRange() {
    const uint64_t size = model_.size();
    const uint64_t offset = Random(size);
    const uint64_t length_max =
        Random(8) == 0 ? size : std::min<uint64_t>(4 * GetParam().cluster_bytes, 1 << 18);
    return {offset, std::min(size - offset, 1 + Random(length_max))};
  }

  void Zero(Range range) {
    model_.replace(range.offset_bytes, range.length_bytes, range.length_bytes, '\0');
  }

  void DoSomething();
  void Check(Range range);
  void Resize();
  void WriteCompressed();
  void JudgeByQemu();

  std::mt19937_64 random_{12345};
  std::shared_ptr<MemoryStorage> file_;
  std::string backing_;
  std::string model_;
  std::unique_ptr<Image> image_;
};

void ImageModel::Check(Range range) {
  std::string got(range.length_bytes, '?');
  ASSERT_EQ(
      image_->Read(range.offset_bytes, {reinterpret_cast<std::byte*>(got.data()), got.size()}),
      absl::OkStatus());
  if (got == model_.substr(range.offset_bytes, range.length_bytes)) return;
  uint64_t at = 0;
  while (got[at] == model_[range.offset_bytes + at]) ++at;
  FAIL() << "read of " << range << " differs from byte " << range.offset_bytes + at
         << " on: " << int{got[at]} << " instead of " << int{model_[range.offset_bytes + at]};
}

void ImageModel::Resize() {
  const uint64_t old_size = model_.size();
  const uint64_t new_size = 512 * (1 + Random(old_size * 3 / 2 / 512));
  ASSERT_EQ(image_->Resize(new_size), absl::OkStatus());
  model_.resize(new_size);
}

void ImageModel::WriteCompressed() {
  const uint64_t cluster = GetParam().cluster_bytes;
  const uint64_t offset = Random(model_.size()) / cluster * cluster;
  const uint64_t length = std::min(cluster, model_.size() - offset);
  const std::string data = RandomData(length);
  const absl::Status status = image_->Write(
      offset, {reinterpret_cast<const std::byte*>(data.data()), length}, {.compressed = true});
  if (status.ok()) model_.replace(offset, length, data);
}

void ImageModel::DoSomething() {
  const Range range = RandomRange();
  switch (Random(16)) {
    case 0:
      ASSERT_EQ(image_->WriteZeroes(range, {.may_unmap = Random(2) == 0}), absl::OkStatus());
      Zero(range);
      break;
    case 1: {
      ASSERT_EQ(image_->Discard(range), absl::OkStatus());
      // Discarded bytes are zeroes or as before.
      std::string got(range.length_bytes, '?');
      ASSERT_EQ(
          image_->Read(range.offset_bytes, {reinterpret_cast<std::byte*>(got.data()), got.size()}),
          absl::OkStatus());
      for (uint64_t i = 0; i < got.size(); ++i) {
        ASSERT_TRUE(got[i] == 0 || got[i] == model_[range.offset_bytes + i]);
      }
      model_.replace(range.offset_bytes, got.size(), got);
      break;
    }
    case 2:
      ASSERT_EQ(image_->Flush(), absl::OkStatus());
      break;
    case 3:
      if (Random(4) == 0) Resize();
      break;
    case 4:
      if (Random(4) != 0) break;
      ASSERT_EQ(image_->Close(), absl::OkStatus());
      image_.reset();
      Open();
      break;
    case 5:
    case 6:
      WriteCompressed();
      break;
    case 7:
    case 8:
    case 9:
      Check(range);
      break;
    default: {
      const std::string data = RandomData(range.length_bytes);
      ASSERT_EQ(image_->Write(range.offset_bytes,
                              {reinterpret_cast<const std::byte*>(data.data()), data.size()}),
                absl::OkStatus());
      model_.replace(range.offset_bytes, data.size(), data);
    }
  }
}

void ImageModel::JudgeByQemu() {
  if (!HasTool("qemu-img")) return;
  const std::string path = TemporaryPath("judged.qcow2");
  SaveFile(*file_, path);
  const ToolResult check = RunTool({"qemu-img", "check", "-f", "qcow2", path});
  ASSERT_EQ(check.exit_code, 0) << check.output;
  if (GetParam().backing) return;
  const std::string raw = TemporaryPath("judged.raw");
  SaveFile(*MemoryStorage::Of(model_), raw);
  const ToolResult compare =
      RunTool({"qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw});
  ASSERT_EQ(compare.exit_code, 0) << compare.output;
}

TEST_P(ImageModel, AgreesWithAString) {
  const Shape& shape = GetParam();
  file_ = std::make_shared<MemoryStorage>(0);
  model_.resize(std::min<uint64_t>(64 * shape.cluster_bytes, 8 << 20));
  if (shape.backing) {
    backing_ = RandomData(model_.size() / 2);
    model_.replace(0, backing_.size(), backing_);
  }
  ASSERT_EQ(Create(*file_, {.size_bytes = model_.size(),
                            .version = shape.version,
                            .cluster_size_bytes = shape.cluster_bytes,
                            .refcount_bits = shape.refcount_bits,
                            .compression_type = shape.compression}),
            absl::OkStatus());
  Open();
  for (int round = 0; round < 4; ++round) {
    for (int move = 0; move < 100; ++move) {
      DoSomething();
      if (HasFatalFailure()) FAIL() << "at round " << round << ", move " << move;
    }
    Check({0, model_.size()});
    ASSERT_EQ(image_->Close(), absl::OkStatus());
    image_.reset();
    JudgeByQemu();
    ASSERT_FALSE(HasFatalFailure()) << "round " << round;
    Open();
    Check({0, model_.size()});
  }
}

constexpr auto kZlib = CompressionType::kZlib;
constexpr auto kZstd = CompressionType::kZstd;

INSTANTIATE_TEST_SUITE_P(
    Shapes, ImageModel,
    testing::Values(Shape{3, 65536, 16, kZlib, false}, Shape{3, 65536, 16, kZstd, true},
                    Shape{2, 65536, 16, kZlib, false}, Shape{2, 4096, 16, kZlib, true},
                    Shape{3, 512, 16, kZlib, true}, Shape{3, 512, 64, kZstd, false},
                    Shape{3, 512, 1, kZlib, false}, Shape{3, 4096, 1, kZstd, true},
                    Shape{3, 4096, 2, kZlib, false}, Shape{3, 4096, 4, kZlib, true},
                    Shape{3, 16384, 8, kZlib, false}, Shape{3, 16384, 32, kZstd, true},
                    Shape{3, 131072, 64, kZlib, true}, Shape{3, 1 << 20, 16, kZlib, false},
                    Shape{3, 2 << 20, 1, kZlib, true}, Shape{2, 512, 16, kZlib, false},
                    Shape{2, 2 << 20, 16, kZlib, true}),
    NameOf);

}  // namespace
}  // namespace tidemark::qcow2
