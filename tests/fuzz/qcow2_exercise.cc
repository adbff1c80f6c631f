#include "tests/fuzz/qcow2_exercise.h"

#include <sys/resource.h>

#include <atomic>
#include <random>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/info.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kPeakMemoryKiBMax = 256 << 10;
// Of one image: far more than any of the golden ones needs, far less than a hang.
constexpr uint64_t kRequestsMax = 4'000'000;
constexpr uint64_t kBytesReadMax = uint64_t{2} << 30;

// Counts what is asked of the file, so that "never hangs" needs no clock. Past the limits every
// request fails, which ends what would not end.
class CountingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    bytes_read_ += buffer.size();
    return Exhausted() ? absl::ResourceExhaustedError("fuzz limit")
                       : ForwardingStorage::Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    return Exhausted() ? absl::ResourceExhaustedError("fuzz limit")
                       : ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::StatusOr<storage::Extent> Map(Range range) override {
    if (Exhausted()) return absl::ResourceExhaustedError("fuzz limit");
    return ForwardingStorage::Map(range);
  }

  bool within_limits() const { return requests_ <= kRequestsMax && bytes_read_ <= kBytesReadMax; }

 private:
  bool Exhausted() {
    ++requests_;
    return !within_limits();
  }

  std::atomic<uint64_t> requests_ = 0;
  std::atomic<uint64_t> bytes_read_ = 0;
};

uint64_t PeakMemoryKiB() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Sanitizers keep shadow and quarantine beside what the program uses.
constexpr bool kMemoryIsMeasurable =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    false;
#else
    true;
#endif

// What a reader does with an image. INTERNAL for an answer that no image may make us give.
absl::Status ReadEverything(Image& image, std::mt19937_64& random) {
  const uint64_t size_bytes = image.size_bytes();
  std::vector<std::byte> buffer(kMiB);
  const auto read = [&](uint64_t offset_bytes) {
    if (offset_bytes >= size_bytes) return;
    const uint64_t length = std::min<uint64_t>(buffer.size(), size_bytes - offset_bytes);
    image.Read(offset_bytes, absl::MakeSpan(buffer).subspan(0, length)).IgnoreError();
  };
  for (uint64_t at = 0; at < std::min(size_bytes, 8 * kMiB); at += buffer.size()) read(at);
  for (int count = 0; count < 8; ++count) read(random() % (size_bytes + 1));
  if (size_bytes > 0) read(size_bytes - 1);
  uint64_t at = 0;
  for (int count = 0; count < 2000 && at < size_bytes; ++count) {
    const auto extent = image.Map({at, size_bytes - at});
    if (!extent.ok()) break;
    if (extent->range.offset_bytes != at || extent->range.empty() ||
        extent->range.end_bytes() > size_bytes) {
      return absl::InternalError(absl::StrCat("asked from ", at, ", told of ",
                                              extent->range.offset_bytes, " to ",
                                              extent->range.end_bytes(), " of ", size_bytes));
    }
    const auto placement = image.PlaceRead(extent->range.Intersect({at, kMiB}));
    at = extent->range.end_bytes();
  }
  GatherInfo(image).status().IgnoreError();
  const auto bitmaps = LoadBitmaps(image);
  if (!bitmaps.ok()) return absl::OkStatus();
  for (const StoredBitmap& bitmap : *bitmaps) {
    LoadBitmapBits(image, bitmap).status().IgnoreError();
  }
  return absl::OkStatus();
}

// What a writer does with one.
void WriteHereAndThere(Image& image, std::mt19937_64& random) {
  MarkBitmapsInUse(image).IgnoreError();
  const uint64_t size_bytes = image.size_bytes();
  std::vector<std::byte> data(100000, std::byte{0x77});
  for (int count = 0; count < 12 && size_bytes > data.size(); ++count) {
    const uint64_t at = random() % std::min(size_bytes - data.size(), 64 * kMiB);
    const uint64_t length = 1 + random() % data.size();
    switch (random() % 4) {
      case 0:
        image.WriteZeroes({at, length}).IgnoreError();
        break;
      case 1:
        image.Discard({at, length}).IgnoreError();
        break;
      case 2:
        image.Flush().IgnoreError();
        break;
      default:
        image.Write(at, storage::ConstBytes(data).subspan(0, length)).IgnoreError();
    }
  }
  const auto bitmaps = LoadBitmaps(image);
  if (bitmaps.ok() && !bitmaps->empty()) {
    RemoveStoredBitmap(image, bitmaps->front().name).IgnoreError();
  }
  const uint64_t bits = (size_bytes / 65536 + (size_bytes % 65536 != 0) + 7) / 8;
  if (bits <= kMiB) {
    const auto some = [](uint64_t, uint64_t length) { return std::string(length, '\x55'); };
    StoreBitmaps(image, {{"fuzz", 65536, true, some}}).IgnoreError();
  }
  if (size_bytes < (uint64_t{1} << 40)) image.Resize(size_bytes + 512 * 1024).IgnoreError();
  image.Close().IgnoreError();
}

}  // namespace

absl::Status Exercise(const MemoryStorage& contents, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto file = std::make_shared<CountingStorage>(contents.Copy());
  auto image = Image::Open(file, {.read_only = true});
  if (image.ok()) RETURN_IF_ERROR(ReadEverything(**image, random));
  const auto checked = std::make_shared<CountingStorage>(contents.Copy());
  Check(*checked).status().IgnoreError();
  const auto written = std::make_shared<CountingStorage>(contents.Copy());
  image = Image::Open(written, {});
  if (image.ok()) WriteHereAndThere(**image, random);
  if (!file->within_limits()) return absl::InternalError("reading asks too much of the file");
  if (!checked->within_limits()) return absl::InternalError("checking asks too much of the file");
  if (!written->within_limits()) return absl::InternalError("writing asks too much of the file");
  if (kMemoryIsMeasurable && PeakMemoryKiB() > kPeakMemoryKiBMax) {
    return absl::InternalError(absl::StrCat(PeakMemoryKiB(), " KiB of memory"));
  }
  return absl::OkStatus();
}

void Store64(MemoryStorage& file, uint64_t offset_bytes, uint64_t value) {
  std::byte bytes[8];
  StoreBigEndian(bytes, value);
  CHECK(file.Write(offset_bytes, bytes, {}).ok());
}

void Store32(MemoryStorage& file, uint64_t offset_bytes, uint32_t value) {
  std::byte bytes[4];
  StoreBigEndian(bytes, value);
  CHECK(file.Write(offset_bytes, bytes, {}).ok());
}

}  // namespace tidemark::qcow2
