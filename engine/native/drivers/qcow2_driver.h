// Driver qcow2: an image with its persistent bitmaps. Thread rule: that of graph::Driver.
#ifndef ENGINE_NATIVE_DRIVERS_QCOW2_DRIVER_H_
#define ENGINE_NATIVE_DRIVERS_QCOW2_DRIVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/snapshots.h"
#include "engine/graph/driver.h"

namespace tidemark::native {

class Qcow2Driver final : public graph::Driver {
 public:
  // Opens the image in `file`, which is called `filename` in queries. If it is opened for writing,
  // the bitmaps in it are marked as in use: from now on only Close makes them trustworthy again.
  // Blocks.
  static absl::StatusOr<std::unique_ptr<Qcow2Driver>> Open(std::shared_ptr<storage::Storage> file,
                                                           std::string filename,
                                                           qcow2::OpenOptions options);

  // The bitmaps found at open, oldest first: for the node that is made of this driver. Once.
  std::vector<graph::StoredBitmap> TakeLoadedBitmaps() { return std::move(loaded_); }

  qcow2::Image& image() { return *image_; }
  // As found at open: we never change them.
  const std::vector<qcow2::Snapshot>& snapshots() const { return snapshots_; }
  // What the file holds of bitmaps, without bits. Any thread.
  std::vector<qcow2::StoredBitmap> stored_bitmaps() const;

  absl::string_view name() const override { return "qcow2"; }
  std::string filename() const override { return filename_; }
  std::shared_ptr<storage::Storage> storage() override { return image_; }
  void SetBacking(std::shared_ptr<storage::Storage> backing) override {
    image_->SetBacking(std::move(backing));
  }
  void ForgetBacking() override { image_->ForgetBacking(); }
  absl::Status CheckStorable(absl::string_view node_name,
                             absl::Span<const graph::BitmapShape> bitmaps,
                             uint64_t size_bytes) override;
  absl::Status StoreBitmaps(std::vector<graph::StoredBitmap> bitmaps) override;
  absl::Status KeepUsingBitmaps() override;
  absl::Status RemoveStored(absl::string_view bitmap_name) override;
  absl::Status Close(std::vector<graph::StoredBitmap> bitmaps) override;

 private:
  Qcow2Driver(std::shared_ptr<qcow2::Image> image, std::string filename, bool read_only)
      : filename_(std::move(filename)), read_only_(read_only), image_(std::move(image)) {}

  absl::Status LoadBitmaps();
  absl::Status Store(const std::vector<graph::StoredBitmap>& bitmaps, qcow2::StoreMode mode);

  // Constant after Open.
  const std::string filename_;
  const bool read_only_;
  std::vector<qcow2::Snapshot> snapshots_;

  std::shared_ptr<qcow2::Image> image_;
  std::vector<graph::StoredBitmap> loaded_;
  // StoreBitmaps has stored all, and nothing was written since. Workers, one after the other.
  bool bitmaps_are_stored_ = false;

  mutable Mutex mutex_;
  std::vector<qcow2::StoredBitmap> stored_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DRIVERS_QCOW2_DRIVER_H_
