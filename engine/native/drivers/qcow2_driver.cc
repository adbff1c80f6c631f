#include "engine/native/drivers/qcow2_driver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/bitmap/limits.h"

namespace tidemark::native {
namespace {

// The bits of one bitmap in the image; an empty bitmap if they cannot be trusted.
absl::StatusOr<std::shared_ptr<bitmap::DirtyBitmap>> LoadBits(qcow2::Image& image,
                                                              const qcow2::StoredBitmap& stored) {
  const uint64_t granules =
      bitmap::DirtyBitmap::GranuleCount(image.size_bytes(), stored.granularity_bytes);
  if (granules > bitmap::kGranuleCountMax) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("bitmap \"", stored.name, "\" has ", granules, " bits; at most ",
                              bitmap::kGranuleCountMax, " can be held"),
                 {{"bitmap", stored.name}});
  }
  auto bits = std::make_shared<bitmap::DirtyBitmap>(image.size_bytes(), stored.granularity_bytes);
  if (stored.consistent()) {
    RETURN_IF_ERROR(qcow2::ReadBitmapBits(
        image, stored, [&bits](uint64_t offset, uint64_t length, const char* loaded) {
          if (loaded != nullptr) return bits->DeserializePart(offset, {loaded, length});
          // Past the end of the disk the bitmap cuts it off.
          const uint64_t granularity_bytes = bits->granularity_bytes();
          bits->Set({offset * 8 * granularity_bytes, length * 8 * granularity_bytes});
          return absl::OkStatus();
        }));
  }
  return bits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Qcow2Driver>> Qcow2Driver::Open(
    std::shared_ptr<storage::Storage> file, std::string filename, qcow2::OpenOptions options) {
  ASSIGN_OR_RETURN(std::unique_ptr<qcow2::Image> image,
                   qcow2::Image::Open(std::move(file), options));
  std::unique_ptr<Qcow2Driver> driver(
      new Qcow2Driver(std::move(image), std::move(filename), options.read_only));
  qcow2::Image& opened = *driver->image_;
  ASSIGN_OR_RETURN(
      qcow2::SnapshotTable snapshots,
      qcow2::ReadSnapshotTable(opened.header(), [&opened](uint64_t offset, storage::Bytes buffer) {
        return opened.ReadMetadata(offset, buffer);
      }));
  driver->snapshots_ = std::move(snapshots.snapshots);
  RETURN_IF_ERROR(driver->LoadBitmaps());
  return driver;
}

absl::Status Qcow2Driver::LoadBitmaps() {
  ASSIGN_OR_RETURN(std::vector<qcow2::StoredBitmap> stored, qcow2::LoadBitmaps(*image_));
  for (const qcow2::StoredBitmap& bitmap : stored) {
    ASSIGN_OR_RETURN(std::shared_ptr<bitmap::DirtyBitmap> bits, LoadBits(*image_, bitmap));
    loaded_.push_back({.name = bitmap.name,
                       .enabled = bitmap.enabled,
                       .inconsistent = !bitmap.consistent(),
                       .bits = std::move(bits)});
  }
  if (!read_only_ && !stored.empty()) {
    RETURN_IF_ERROR(qcow2::MarkBitmapsInUse(*image_));
    for (qcow2::StoredBitmap& bitmap : stored) bitmap.in_use = true;
  }
  MutexLock lock(&mutex_);
  stored_ = std::move(stored);
  return absl::OkStatus();
}

std::vector<qcow2::StoredBitmap> Qcow2Driver::stored_bitmaps() const {
  MutexLock lock(&mutex_);
  return stored_;
}

absl::Status Qcow2Driver::CheckStorable(absl::string_view node_name,
                                        absl::Span<const graph::BitmapShape> bitmaps,
                                        uint64_t size_bytes) {
  if (bitmaps.empty()) return absl::OkStatus();
  std::vector<qcow2::BitmapShape> shapes;
  shapes.reserve(bitmaps.size());
  for (const graph::BitmapShape& bitmap : bitmaps) {
    shapes.push_back({bitmap.name, bitmap.granularity_bytes});
  }
  return Annotate(qcow2::CheckBitmapsFit(*image_, shapes, size_bytes),
                  absl::StrCat("cannot keep bitmap \"", bitmaps.back().name, "\" of node \"",
                               node_name, "\" persistent"));
}

absl::Status Qcow2Driver::RemoveStored(absl::string_view bitmap_name) {
  RETURN_IF_ERROR(qcow2::RemoveStoredBitmap(*image_, bitmap_name));
  MutexLock lock(&mutex_);
  stored_.erase(
      std::remove_if(stored_.begin(), stored_.end(),
                     [&](const qcow2::StoredBitmap& stored) { return stored.name == bitmap_name; }),
      stored_.end());
  return absl::OkStatus();
}

absl::Status Qcow2Driver::Store(const std::vector<graph::StoredBitmap>& bitmaps,
                                qcow2::StoreMode mode) {
  if (read_only_) return absl::OkStatus();
  std::vector<qcow2::BitmapToStore> to_store;
  absl::Status status;
  for (const graph::StoredBitmap& bitmap : bitmaps) {
    // What the image holds of an inconsistent one stays as it is: not to be trusted.
    if (bitmap.inconsistent) continue;
    // No program can read the bitmaps of a disk without bytes: there are none to mark.
    if (image_->size_bytes() == 0) {
      status.Update(RemoveStored(bitmap.name));
      continue;
    }
    to_store.push_back({.name = bitmap.name,
                        .granularity_bytes = bitmap.bits->granularity_bytes(),
                        .enabled = bitmap.enabled,
                        .bits = [bits = bitmap.bits](uint64_t offset, uint64_t length) {
                          return bits->SerializePart(offset, length);
                        }});
  }
  status.Update(qcow2::StoreBitmaps(*image_, to_store, mode));
  return status;
}

absl::Status Qcow2Driver::StoreBitmaps(std::vector<graph::StoredBitmap> bitmaps) {
  const absl::Status status = Store(bitmaps, qcow2::StoreMode::kAll);
  bitmaps_are_stored_ = status.ok();
  if (status.ok()) return status;
  // A header that could not be written may be there all the same.
  const absl::Status kept = KeepUsingBitmaps();
  return kept.ok() ? status : Annotate(status, kept.message());
}

absl::Status Qcow2Driver::KeepUsingBitmaps() {
  bitmaps_are_stored_ = false;
  if (read_only_ || qcow2::MarkBitmapsInUse(*image_).ok()) return absl::OkStatus();
  // What guests write from now on must not meet bitmaps that look consistent.
  return Annotate(qcow2::DisownBitmaps(*image_),
                  "the image's bitmaps are taken for consistent after a crash, and are not");
}

absl::Status Qcow2Driver::Close(std::vector<graph::StoredBitmap> bitmaps) {
  absl::Status status =
      bitmaps_are_stored_ ? absl::OkStatus() : Store(bitmaps, qcow2::StoreMode::kWhatCanBe);
  // Also after a failure: what the guests wrote matters more than the bitmaps.
  status.Update(image_->Close());
  image_->SetBacking(nullptr);
  image_ = nullptr;
  return status;
}

}  // namespace tidemark::native
