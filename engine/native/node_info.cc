#include "engine/native/node_info.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/base/utf8.h"
#include "engine/format/qcow2/layout.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/opener.h"

// What images and folders call things may be any bytes: here they become text.
namespace tidemark::native {
namespace {

block::v1::BlockdevDetectZeroesOptions ToProto(graph::DetectZeroes detect_zeroes) {
  switch (detect_zeroes) {
    case graph::DetectZeroes::kOff:
      return block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF;
    case graph::DetectZeroes::kOn:
      return block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_ON;
    case graph::DetectZeroes::kUnmap:
      return block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP;
  }
  return block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_UNSPECIFIED;
}

void FillBitmap(const graph::BitmapInfo& bitmap, block::v1::BlockDirtyInfo* info) {
  info->set_name(ToUtf8(bitmap.name));
  info->set_count(bitmap.count_bytes);
  info->set_granularity(bitmap.granularity_bytes);
  info->set_recording(bitmap.recording);
  info->set_busy(bitmap.busy);
  info->set_persistent(bitmap.persistent);
  if (bitmap.inconsistent) info->set_inconsistent(true);
}

// Bytes on disk of what the node keeps itself: without its backing images.
absl::optional<int64_t> AllocatedBytes(const graph::Node& node) {
  if (auto* const file = dynamic_cast<FileDriver*>(&node.driver())) {
    return file->allocated_bytes();
  }
  const graph::Node* const file = node.ChildInRole(graph::kRoleFile);
  return file == nullptr ? absl::nullopt : AllocatedBytes(*file);
}

void FillSnapshot(const qcow2::Snapshot& snapshot, block::v1::SnapshotInfo* info) {
  constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
  info->set_id(ToUtf8(snapshot.id));
  info->set_name(ToUtf8(snapshot.name));
  info->set_vm_state_size(snapshot.vm_state_bytes);
  info->set_date_sec(snapshot.date_seconds);
  info->set_date_nsec(snapshot.date_nanoseconds);
  info->set_vm_clock_sec(snapshot.vm_clock_nanoseconds / kNanosecondsPerSecond);
  info->set_vm_clock_nsec(snapshot.vm_clock_nanoseconds % kNanosecondsPerSecond);
  if (snapshot.instruction_count.has_value()) info->set_icount(*snapshot.instruction_count);
}

void FillStoredBitmap(const qcow2::StoredBitmap& bitmap, block::v1::Qcow2BitmapInfo* info) {
  info->set_name(ToUtf8(bitmap.name));
  info->set_granularity(bitmap.granularity_bytes);
  if (bitmap.in_use) info->add_flags(block::v1::QCOW2_BITMAP_INFO_FLAGS_IN_USE);
  if (bitmap.enabled) info->add_flags(block::v1::QCOW2_BITMAP_INFO_FLAGS_AUTO);
}

void FillQcow2(Qcow2Driver& driver, block::v1::ImageInfo* info) {
  const qcow2::Header header = driver.image().header();
  info->set_dirty_flag((header.incompatible_features & qcow2::incompatible_feature::kDirty) != 0);
  info->set_cluster_size(header.geometry.cluster_bytes());
  if (!header.backing_file.empty()) {
    info->set_backing_filename(ToUtf8(header.backing_file));
    const absl::StatusOr<std::string> path =
        ResolveBackingFile(header.backing_file, driver.filename());
    if (path.ok()) info->set_full_backing_filename(ToUtf8(*path));
  }
  if (header.backing_format.has_value()) {
    info->set_backing_filename_format(ToUtf8(*header.backing_format));
  }
  for (const qcow2::Snapshot& snapshot : driver.snapshots()) {
    FillSnapshot(snapshot, info->add_snapshots());
  }
  auto* specific = info->mutable_format_specific()->mutable_qcow2();
  specific->set_compat(header.version == 2 ? "0.10" : "1.1");
  if (header.version > 2) {
    specific->set_lazy_refcounts(
        (header.compatible_features & qcow2::compatible_feature::kLazyRefcounts) != 0);
    specific->set_corrupt((header.incompatible_features & qcow2::incompatible_feature::kCorrupt) !=
                          0);
    specific->set_extended_l2(false);
  }
  specific->set_refcount_bits(header.geometry.refcount_bits());
  for (const qcow2::StoredBitmap& bitmap : driver.stored_bitmaps()) {
    FillStoredBitmap(bitmap, specific->add_bitmaps());
  }
  specific->set_compression_type(header.compression_type == qcow2::CompressionType::kZstd
                                     ? block::v1::QCOW2_COMPRESSION_TYPE_ZSTD
                                     : block::v1::QCOW2_COMPRESSION_TYPE_ZLIB);
}

void FillImage(const graph::Node& node, bool flat, block::v1::ImageInfo* info) {
  // An image is what is below filters: they have none of their own.
  const graph::Node& image = *node.WithoutJobFilters();
  info->set_filename(ToUtf8(image.driver().filename()));
  info->set_format(std::string(image.driver().name()));
  info->set_virtual_size(image.storage()->size_bytes());
  const absl::optional<int64_t> allocated_bytes = AllocatedBytes(image);
  if (allocated_bytes.has_value()) info->set_actual_size(*allocated_bytes);
  if (auto* const qcow2 = dynamic_cast<Qcow2Driver*>(&image.driver())) FillQcow2(*qcow2, info);
  const graph::Node* const backing = image.backing();
  if (backing != nullptr && !flat) FillImage(*backing, flat, info->mutable_backing_image());
}

}  // namespace

void FillNodeInfo(const graph::Node& node, bool flat, block::v1::BlockDeviceInfo* info) {
  info->set_node_name(node.name());
  info->set_file(ToUtf8(node.WithoutJobFilters()->driver().filename()));
  info->set_drv(std::string(node.driver().name()));
  info->set_ro(node.read_only());
  if (const graph::Node* const backing = node.backing()) {
    info->set_backing_file(ToUtf8(backing->WithoutJobFilters()->driver().filename()));
  }
  info->set_backing_file_depth(node.backing_depth());
  info->set_detect_zeroes(ToProto(node.options().detect_zeroes));
  info->mutable_cache()->set_writeback(true);
  info->mutable_cache()->set_direct(node.options().cache_direct);
  info->mutable_cache()->set_no_flush(node.options().cache_no_flush);
  FillImage(node, flat, info->mutable_image());
  for (const graph::BitmapInfo& bitmap : node.bitmaps().List()) {
    FillBitmap(bitmap, info->add_dirty_bitmaps());
  }
}

}  // namespace tidemark::native
