// Many threads on one image: every thread knows what its own bytes must be, though its clusters are
// allocated, freed and placed by several at once.

#include <unistd.h>

#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/file_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr int kThreads = 4;
constexpr uint64_t kSector = 512;
constexpr uint64_t kSharedBytes = 1 << 20;
constexpr uint64_t kPrivateBytes = 1 << 20;  // For each thread, behind the shared part.
constexpr uint64_t kDiskBytes = kSharedBytes + kThreads * kPrivateBytes;

storage::ConstBytes AsBytes(const std::string& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

// One thread's requests. In the shared part it owns every kThreads-th sector; its private part it
// treats as it likes.
class Worker {
 public:
  Worker(Image* image, int number)
      : image_(*image),
        number_(number),
        random_(number),
        shared_(kSharedBytes, '\0'),
        private_(kPrivateBytes, '\0') {}

  void Run(int moves) {
    for (int i = 0; i < moves && !testing::Test::HasFailure(); ++i) Move();
    CheckAll();
  }
  void CheckAll();

 private:
  uint64_t Pick(uint64_t end) { return random_() % end; }
  uint64_t private_offset() const { return kSharedBytes + number_ * kPrivateBytes; }
  std::string Read(Range range) {
    std::string data(range.length_bytes, '?');
    EXPECT_EQ(
        image_.Read(range.offset_bytes, {reinterpret_cast<std::byte*>(data.data()), data.size()}),
        absl::OkStatus());
    return data;
  }
  void Move();
  void WriteShared();
  void WritePrivate(Range range, const std::string& data);
  void PlaceWrite();
  void PlaceRead();

  Image& image_;
  const int number_;
  std::mt19937_64 random_;
  std::string shared_;
  std::string private_;
};

void Worker::WriteShared() {
  const uint64_t sector = Pick(kSharedBytes / kSector / kThreads) * kThreads + number_;
  const std::string data(kSector, static_cast<char>('a' + Pick(26)));
  ASSERT_EQ(image_.Write(sector * kSector, AsBytes(data)), absl::OkStatus());
  shared_.replace(sector * kSector, kSector, data);
  ASSERT_EQ(Read({sector * kSector, kSector}), data);
}

void Worker::WritePrivate(Range range, const std::string& data) {
  ASSERT_EQ(image_.Write(private_offset() + range.offset_bytes, AsBytes(data)), absl::OkStatus());
  private_.replace(range.offset_bytes, range.length_bytes, data);
}

void Worker::PlaceWrite() {
  const uint64_t cluster = image_.header().geometry.cluster_bytes();
  const uint64_t clusters = kPrivateBytes / cluster;
  const uint64_t first = Pick(clusters);
  const uint64_t count = 1 + Pick(std::min<uint64_t>(clusters - first, 8));
  const Range range = {private_offset() + first * cluster, count * cluster};
  const bool was_placed = image_.Map(range)->content == storage::Extent::Content::kData;
  auto placement = image_.PlaceWrite(range);
  ASSERT_EQ(placement.status(), absl::OkStatus());
  ASSERT_NE(*placement, nullptr);
  const std::string data(range.length_bytes, static_cast<char>('A' + Pick(26)));
  uint64_t at = range.offset_bytes;
  const bool keep = was_placed || Pick(4) != 0;
  for (const storage::Placement::Piece& piece : (*placement)->pieces()) {
    ASSERT_EQ(piece.range.offset_bytes, at);
    at = piece.range.end_bytes();
    if (!keep) continue;
    ASSERT_EQ(pwrite(piece.target->file()->buffered_fd, data.data(), piece.range.length_bytes,
                     static_cast<off_t>(piece.target_offset_bytes)),
              static_cast<ssize_t>(piece.range.length_bytes));
  }
  ASSERT_EQ(at, range.end_bytes());
  if (!keep) return;
  ASSERT_EQ((*placement)->Finish(), absl::OkStatus());
  private_.replace(first * cluster, data.size(), data);
}

void Worker::PlaceRead() {
  const uint64_t offset = Pick(kPrivateBytes);
  const uint64_t length = 1 + Pick(kPrivateBytes - offset);
  auto placement = image_.PlaceRead({private_offset() + offset, length});
  ASSERT_EQ(placement.status(), absl::OkStatus());
  if (*placement == nullptr) return;  // Something in it is compressed.
  std::string got;
  for (const storage::Placement::Piece& piece : (*placement)->pieces()) {
    ASSERT_EQ(piece.range.offset_bytes, private_offset() + offset + got.size());
    std::string part(piece.range.length_bytes, '\0');
    if (piece.target != nullptr) {
      ASSERT_GE(pread(piece.target->file()->buffered_fd, part.data(), part.size(),
                      static_cast<off_t>(piece.target_offset_bytes)),
                0);
    }
    got += part;
  }
  ASSERT_TRUE(got == private_.substr(offset, length)) << "placed read differs";
}

void Worker::Move() {
  const uint64_t offset = Pick(kPrivateBytes);
  const uint64_t length = 1 + Pick(std::min<uint64_t>(kPrivateBytes - offset, 100000));
  const Range range = {offset, length};
  const Range on_disk = {private_offset() + offset, length};
  switch (Pick(16)) {
    case 0:
      ASSERT_EQ(image_.WriteZeroes(on_disk, {.may_unmap = Pick(2) == 0}), absl::OkStatus());
      private_.replace(offset, length, length, '\0');
      break;
    case 1:
      ASSERT_EQ(image_.Discard(on_disk), absl::OkStatus());
      private_.replace(offset, length, Read(on_disk));
      break;
    case 2:
      if (Pick(4) != 0) break;
      ASSERT_EQ(image_.Flush(), absl::OkStatus());
      break;
    case 3: {
      const uint64_t cluster = image_.header().geometry.cluster_bytes();
      const uint64_t whole = offset / cluster * cluster;
      const std::string data(cluster, static_cast<char>('0' + Pick(10)));
      const absl::Status status =
          image_.Write(private_offset() + whole, AsBytes(data), {.compressed = true});
      if (status.ok()) private_.replace(whole, cluster, data);
      break;
    }
    case 4:
    case 5:
      PlaceWrite();
      break;
    case 6:
      PlaceRead();
      break;
    case 7:
    case 8:
      ASSERT_TRUE(Read(on_disk) == private_.substr(offset, length)) << "read differs";
      break;
    case 9:
    case 10:
      WritePrivate(range, std::string(length, static_cast<char>('a' + Pick(26))));
      break;
    default:
      WriteShared();
  }
}

void Worker::CheckAll() {
  ASSERT_TRUE(Read({private_offset(), kPrivateBytes}) == private_);
  const std::string shared = Read({0, kSharedBytes});
  for (uint64_t at = number_ * kSector; at < kSharedBytes; at += kThreads * kSector) {
    ASSERT_EQ(shared.substr(at, kSector), shared_.substr(at, kSector)) << "at " << at;
  }
}

class ImageThreads : public testing::TestWithParam<uint64_t> {};

TEST_P(ImageThreads, EachFindsWhatItWrote) {
  const std::string path = TemporaryPath(absl::StrCat("threads", GetParam(), ".qcow2"));
  ASSERT_EQ(storage::CreateFile(path, 0, storage::Preallocation::kOff), absl::OkStatus());
  auto file = *storage::OpenFile(path, {.discard_unmaps = true});
  ASSERT_EQ(Create(*file, {.size_bytes = kDiskBytes, .cluster_size_bytes = GetParam()}),
            absl::OkStatus());
  auto image = *Image::Open(file, {.discard_unmaps = true, .l2_cache_bytes = 0});
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < kThreads; ++i) workers.push_back(std::make_unique<Worker>(image.get(), i));
  std::vector<std::thread> threads;
  for (auto& worker : workers) threads.emplace_back([&] { worker->Run(400); });
  for (std::thread& thread : threads) thread.join();
  for (auto& worker : workers) worker->CheckAll();
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image.reset();
  file.reset();
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const ToolResult check = RunTool({"qemu-img", "check", "-f", "qcow2", path});
  EXPECT_EQ(check.exit_code, 0) << check.output;
  unlink(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(ClusterSizes, ImageThreads, testing::Values(512, 4096, 65536, 262144));

}  // namespace
}  // namespace tidemark::qcow2
