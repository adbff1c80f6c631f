#include "engine/format/qcow2/image.h"

#include <algorithm>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/core.h"
#include "engine/format/qcow2/refcount_rebuild.h"
#include "engine/storage/errno_status.h"

namespace tidemark::qcow2 {
namespace {

absl::Status CheckRange(const Core& core, Range range) {
  const uint64_t size = core.size_bytes.load(std::memory_order_relaxed);
  if (range.FitsIn(size)) [[likely]] {
    return absl::OkStatus();
  }
  return storage::PastEndError("qcow2 image", range, size);
}

// The last cluster of the disk may be partial.
absl::Status CheckWholeClusters(const Core& core, absl::string_view what, Range range) {
  const Geometry& geometry = core.geometry;
  const bool whole = geometry.OffsetInCluster(range.offset_bytes) == 0 &&
                     (geometry.OffsetInCluster(range.end_bytes()) == 0 ||
                      range.end_bytes() == core.size_bytes.load());
  if (whole) return absl::OkStatus();
  return Error(Reason::kInvalidField,
               absl::StrCat(what, " of ", range.ToString(), " is not of whole clusters"));
}

}  // namespace

Image::Image(std::unique_ptr<Core> core) : core_(std::move(core)) {}
Image::~Image() = default;

absl::StatusOr<std::unique_ptr<Image>> Image::Open(std::shared_ptr<storage::Storage> file,
                                                   OpenOptions options) {
  ASSIGN_OR_RETURN(Header header, ReadHeader(*file));
  if (!options.read_only) {
    if ((header.incompatible_features & incompatible_feature::kCorrupt) != 0) {
      return Error(Reason::kImageCorrupt,
                   "qcow2 image is marked corrupt: it can only be opened for reading");
    }
    if ((header.incompatible_features & incompatible_feature::kDirty) != 0) {
      RETURN_IF_ERROR(RebuildRefcounts(*file, header));
      ASSIGN_OR_RETURN(header, ReadHeader(*file));
    }
  }
  auto core = std::make_unique<Core>(file, file, std::move(header), options);
  RETURN_IF_ERROR(core->Load());
  return std::unique_ptr<Image>(new Image(std::move(core)));
}

Header Image::header() const { return core_->header.Get(); }

Statistics Image::statistics() const {
  const Counters& counters = core_->counters;
  return {.clusters_allocated = counters.clusters_allocated,
          .clusters_freed = counters.clusters_freed,
          .checkpoints = counters.checkpoints,
          .file_flushes = counters.file_flushes,
          .l2_slices_read = counters.l2_slices_read,
          .l2_bytes_written = counters.l2_bytes_written,
          .refcount_blocks_read = counters.refcount_blocks_read,
          .refcount_bytes_written = counters.refcount_bytes_written};
}

void Image::SetBacking(std::shared_ptr<storage::Storage> backing) {
  core_->has_backing = backing != nullptr;
  core_->backing_seen_bytes = 0;
  core_->backing = std::move(backing);
}

std::shared_ptr<storage::Storage> Image::backing() const { return core_->backing; }

void Image::ForgetBacking() { core_->has_backing = false; }

absl::Status Image::ChangeBackingFile(absl::string_view name, absl::optional<std::string> format) {
  return UpdateHeader([&](Header& header) {
    header.backing_file = std::string(name);
    header.backing_format = name.empty() ? absl::nullopt : std::move(format);
    return absl::OkStatus();
  });
}

absl::Status Image::Close() {
  if (core_->options.read_only) return absl::OkStatus();
  RETURN_IF_ERROR(core_->checkpointer->Run());
  // What the first one found to be free is written by the second.
  return core_->checkpointer->Run();
}

absl::StatusOr<uint64_t> Image::AllocateClusters(uint64_t count) {
  RETURN_IF_ERROR(core_->CheckWritable());
  ASSIGN_OR_RETURN(const Refcounts::Allocation allocation,
                   core_->refcounts->AllocateAdjacent(count));
  return allocation.host_range.offset_bytes;
}

absl::Status Image::FreeClusters(Range host_range) {
  RETURN_IF_ERROR(core_->CheckWritable());
  return core_->refcounts->Release(host_range);
}

absl::StatusOr<uint64_t> Image::Refcount(uint64_t host_offset_bytes) {
  if (core_->refcounts == nullptr) {
    return Error(Reason::kNodeReadOnly, "qcow2 image is open for reading only");
  }
  return core_->refcounts->Get(host_offset_bytes);
}

absl::Status Image::ReadMetadata(uint64_t host_offset_bytes, storage::Bytes buffer) {
  return core_->file->Read(host_offset_bytes, buffer);
}

absl::Status Image::WriteMetadata(uint64_t host_offset_bytes, storage::ConstBytes data) {
  RETURN_IF_ERROR(core_->CheckWritable());
  return core_->file->Write(host_offset_bytes, data, {});
}

absl::Status Image::UpdateHeader(const std::function<absl::Status(Header&)>& change) {
  RETURN_IF_ERROR(core_->CheckWritable());
  RETURN_IF_ERROR(core_->checkpointer->Run());
  RETURN_IF_ERROR(core_->header.Rewrite(change));
  core_->names_backing.store(!core_->header.Get().backing_file.empty());
  return absl::OkStatus();
}

void Image::KeepAutoclearFeatures(uint64_t bits) { core_->kept_autoclear_features |= bits; }

uint64_t Image::size_bytes() const { return core_->size_bytes.load(); }

storage::Limits Image::limits() const {
  const bool writable = !core_->options.read_only;
  return {.cluster_size_bytes = static_cast<uint32_t>(core_->geometry.cluster_bytes()),
          // Also if the header names a backing file that is not attached: it will show some day.
          .new_ranges_are_zero = !core_->MayShowBacking(),
          .can_discard = writable,
          .can_write_zeroes_fast = writable && core_->version >= 3,
          .can_write_compressed = writable,
          .can_write_unallocated = writable,
          .read_only = !writable};
}

absl::Status Image::Read(uint64_t offset_bytes, storage::Bytes buffer) {
  RETURN_IF_ERROR(CheckRange(*core_, {offset_bytes, buffer.size()}));
  const auto guard = core_->epochs.Enter();
  return ReadDisk(*core_, offset_bytes, buffer);
}

absl::Status Image::Write(uint64_t offset_bytes, storage::ConstBytes data,
                          storage::WriteOptions options) {
  const Range range = {offset_bytes, data.size()};
  RETURN_IF_ERROR(CheckRange(*core_, range));
  RETURN_IF_ERROR(core_->CheckWritable());
  {
    const auto guard = core_->epochs.Enter();
    if (options.compressed) {
      RETURN_IF_ERROR(CheckWholeClusters(*core_, "compressed write", range));
      RETURN_IF_ERROR(WriteCompressed(*core_, offset_bytes, data));
    } else if (options.only_unallocated) {
      RETURN_IF_ERROR(CheckWholeClusters(*core_, "write where nothing is allocated", range));
      RETURN_IF_ERROR(WriteUnallocated(*core_, offset_bytes, data));
    } else {
      RETURN_IF_ERROR(WriteDisk(*core_, offset_bytes, data));
    }
  }
  core_->checkpointer->RunIfWanted();
  return absl::OkStatus();
}

absl::Status Image::WriteZeroes(Range range, storage::ZeroOptions options) {
  RETURN_IF_ERROR(CheckRange(*core_, range));
  RETURN_IF_ERROR(core_->CheckWritable());
  {
    const auto guard = core_->epochs.Enter();
    if (options.only_unallocated) {
      RETURN_IF_ERROR(CheckWholeClusters(*core_, "zeroing where nothing is allocated", range));
      RETURN_IF_ERROR(ZeroUnallocated(*core_, range, options));
    } else {
      RETURN_IF_ERROR(ZeroDisk(*core_, range, options));
    }
  }
  core_->checkpointer->RunIfWanted();
  return absl::OkStatus();
}

absl::Status Image::Discard(Range range) {
  RETURN_IF_ERROR(CheckRange(*core_, range));
  RETURN_IF_ERROR(core_->CheckWritable());
  {
    const auto guard = core_->epochs.Enter();
    RETURN_IF_ERROR(DiscardDisk(*core_, range));
  }
  core_->checkpointer->RunIfWanted();
  return absl::OkStatus();
}

absl::Status Image::Flush() {
  if (core_->options.read_only) return absl::OkStatus();
  return core_->checkpointer->Run();
}

absl::Status Image::Resize(uint64_t size_bytes) {
  RETURN_IF_ERROR(core_->CheckWritable());
  return ResizeDisk(*core_, size_bytes);
}

absl::StatusOr<storage::Extent> Image::Map(Range range) {
  RETURN_IF_ERROR(CheckRange(*core_, range));
  if (range.empty()) return Error(Reason::kInvalidField, "cannot map an empty range");
  const auto guard = core_->epochs.Enter();
  return MapDisk(*core_, range);
}

absl::StatusOr<std::unique_ptr<storage::Placement>> Image::PlaceRead(Range range) {
  RETURN_IF_ERROR(CheckRange(*core_, range));
  return PlaceDiskRead(*core_, range);
}

absl::StatusOr<std::unique_ptr<storage::Placement>> Image::PlaceWrite(Range range) {
  RETURN_IF_ERROR(CheckRange(*core_, range));
  RETURN_IF_ERROR(core_->CheckWritable());
  return PlaceDiskWrite(*core_, range);
}

}  // namespace tidemark::qcow2
