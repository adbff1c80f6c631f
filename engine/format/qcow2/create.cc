// A new image, from its first byte:
//
//   header | refcount table | refcount blocks | L1 table | [ L2 tables | data clusters ]
//
// The bracket is there only if preallocated. Every cluster of the file is used exactly once, so all
// refcounts are one, and every table can be written front to back from a few numbers (the Plan)
// without being held in memory. The header is written last: what precedes it is not an image yet.
#include "engine/format/qcow2/create.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {
namespace {

using Preallocation = CreateOptions::Preallocation;

constexpr uint64_t kSectorBytes = 512;
constexpr size_t kWriteBytesMax = 1 << 20;

absl::Status Refused(absl::string_view field, absl::string_view value, absl::string_view why) {
  return Error(Reason::kInvalidField,
               absl::StrCat("cannot create a qcow2 image with ", field, " ", value, ": ", why),
               {{"field", field}, {"value", value}});
}

absl::Status DoNotGoTogether(absl::string_view one, absl::string_view other,
                             absl::string_view why) {
  return Error(Reason::kInvalidCombination,
               absl::StrCat("cannot create a qcow2 image with ", one, " and ", other, ": ", why));
}

absl::string_view NameOf(Preallocation preallocation) {
  switch (preallocation) {
    case Preallocation::kOff:
      return "off";
    case Preallocation::kMetadata:
      return "metadata";
    case Preallocation::kFalloc:
      return "falloc";
    case Preallocation::kFull:
      return "full";
  }
  return "unknown";
}

absl::Status CheckSupported(const CreateOptions& options) {
  absl::string_view option;
  if (options.data_file) option = "data-file";
  if (options.data_file_raw) option = "data-file-raw";
  if (options.extended_l2) option = "extended-l2";
  if (options.encrypt_format) option = "encrypt";
  if (option.empty()) return absl::OkStatus();
  return Error(Reason::kFeatureUnsupported,
               absl::StrCat("cannot create a qcow2 image with option ", option,
                            ": it is not supported by this engine"),
               {{"field", option}});
}

absl::Status CheckSizes(const CreateOptions& options) {
  if (!std::has_single_bit(options.cluster_size_bytes) ||
      options.cluster_size_bytes < uint64_t{1} << kClusterBitsMin ||
      options.cluster_size_bytes > uint64_t{1} << kClusterBitsMax) {
    return Refused("cluster-size", absl::StrCat(options.cluster_size_bytes),
                   "it must be a power of two between 512 and 2097152");
  }
  if (options.size_bytes % kSectorBytes != 0) {
    return Refused("size", absl::StrCat(options.size_bytes), "it must be a multiple of 512");
  }
  const uint64_t size_bytes_max =
      kL1BytesMax / 8 * (options.cluster_size_bytes / 8) * options.cluster_size_bytes;
  if (options.size_bytes > size_bytes_max) {
    return Refused("size", absl::StrCat(options.size_bytes),
                   absl::StrCat("with cluster-size ", options.cluster_size_bytes,
                                " it must be at most ", size_bytes_max));
  }
  if (!std::has_single_bit(options.refcount_bits) ||
      options.refcount_bits > 1u << kRefcountOrderMax) {
    return Refused("refcount-bits", absl::StrCat(options.refcount_bits),
                   "it must be a power of two of at most 64");
  }
  return absl::OkStatus();
}

absl::Status CheckVersion(const CreateOptions& options) {
  if (options.version == 3) return absl::OkStatus();
  if (options.version != 2) {
    return Refused("version", absl::StrCat(options.version), "it must be v2 or v3");
  }
  constexpr absl::string_view kNeedsVersion3 = "it needs version v3";
  if (options.refcount_bits != 16) {
    return DoNotGoTogether("version v2", absl::StrCat("refcount-bits ", options.refcount_bits),
                           kNeedsVersion3);
  }
  if (options.lazy_refcounts) {
    return DoNotGoTogether("version v2", "lazy-refcounts", kNeedsVersion3);
  }
  if (options.compression_type != CompressionType::kZlib) {
    return DoNotGoTogether("version v2", "compression-type zstd", kNeedsVersion3);
  }
  return absl::OkStatus();
}

absl::Status CheckBacking(const CreateOptions& options) {
  if (options.backing_file.empty()) {
    if (!options.backing_format) return absl::OkStatus();
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("cannot create a qcow2 image with backing-fmt ",
                              *options.backing_format, " and no backing-file"));
  }
  if (options.backing_file.size() > kBackingFileNameMax) {
    return Refused("backing-file", options.backing_file,
                   absl::StrCat("its name has more than ", kBackingFileNameMax, " bytes"));
  }
  if (options.preallocation != Preallocation::kOff) {
    return DoNotGoTogether(absl::StrCat("backing-file ", options.backing_file),
                           absl::StrCat("preallocation ", NameOf(options.preallocation)),
                           "preallocated clusters would hide the backing file");
  }
  return absl::OkStatus();
}

// Where everything goes, in clusters of the file.
struct Plan {
  Geometry geometry;
  uint64_t l1_entries = 0;
  uint64_t refcount_table_clusters = 0;
  uint64_t refcount_blocks = 0;
  uint64_t l1_clusters = 0;
  uint64_t l2_tables = 0;
  uint64_t data_clusters = 0;

  uint64_t refcount_table() const { return 1; }
  uint64_t first_refcount_block() const { return refcount_table() + refcount_table_clusters; }
  uint64_t l1_table() const { return first_refcount_block() + refcount_blocks; }
  uint64_t first_l2_table() const { return l1_table() + l1_clusters; }
  uint64_t first_data() const { return first_l2_table() + l2_tables; }
  uint64_t clusters() const { return first_data() + data_clusters; }
  uint64_t Bytes(uint64_t clusters) const { return clusters << geometry.cluster_bits; }
};

Plan MakePlan(const CreateOptions& options) {
  Plan plan;
  plan.geometry.cluster_bits = std::countr_zero(options.cluster_size_bytes);
  plan.geometry.refcount_order = std::countr_zero(options.refcount_bits);
  plan.l1_entries = plan.geometry.L1EntriesFor(options.size_bytes);
  plan.l1_clusters = plan.geometry.ClustersFor(plan.l1_entries * 8);
  if (options.preallocation != Preallocation::kOff) {
    plan.l2_tables = plan.l1_entries;
    plan.data_clusters = plan.geometry.ClustersFor(options.size_bytes);
  }
  // Refcount blocks count themselves and their table. Only growing, this ends after a few rounds.
  for (;;) {
    const uint64_t per_block = plan.geometry.refcounts_per_block();
    const uint64_t blocks = (plan.clusters() + per_block - 1) / per_block;
    const uint64_t table_clusters = plan.geometry.ClustersFor(blocks * 8);
    if (blocks <= plan.refcount_blocks && table_clusters <= plan.refcount_table_clusters) break;
    plan.refcount_blocks = std::max(plan.refcount_blocks, blocks);
    plan.refcount_table_clusters = std::max(plan.refcount_table_clusters, table_clusters);
  }
  return plan;
}

// Collects what goes into the file front to back into large writes.
class SequentialWriter {
 public:
  SequentialWriter(storage::Storage& file, uint64_t offset_bytes)
      : file_(file), offset_bytes_(offset_bytes) {}

  absl::Status PutEntry(uint64_t entry) {
    std::byte bytes[8];
    StoreBigEndian(bytes, entry);
    return Put(bytes);
  }

  absl::Status Put(storage::ConstBytes bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return buffer_.size() >= kWriteBytesMax ? Flush() : absl::OkStatus();
  }

  absl::Status PadTo(uint64_t offset_bytes) {
    RETURN_IF_ERROR(Flush());
    buffer_.resize(offset_bytes - offset_bytes_);
    return Flush();
  }

  absl::Status Flush() {
    if (buffer_.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(file_.Write(offset_bytes_, buffer_));
    offset_bytes_ += buffer_.size();
    buffer_.clear();
    return absl::OkStatus();
  }

 private:
  storage::Storage& file_;
  uint64_t offset_bytes_;
  std::vector<std::byte> buffer_;
};

// Empties the file and gives it its length, or sees that the device has it. Its beginning, up to
// the data, reads as zeroes afterwards.
absl::Status MakeRoom(storage::Storage& file, const Plan& plan) {
  const uint64_t length_bytes = plan.Bytes(plan.clusters());
  absl::Status resized = file.Resize(0);
  if (resized.ok()) resized = file.Resize(length_bytes);
  if (!absl::IsUnimplemented(resized)) return resized;
  if (file.size_bytes() < length_bytes) {
    return Error(Reason::kNoSpace,
                 absl::StrCat("cannot create a qcow2 image: it needs ", length_bytes,
                              " bytes and there are ", file.size_bytes()));
  }
  // Whole: what is allocated but not written must read as zeroes too.
  return file.WriteZeroes({0, length_bytes});
}

absl::Status WriteRefcounts(storage::Storage& file, const Plan& plan) {
  SequentialWriter writer(file, plan.Bytes(plan.refcount_table()));
  for (uint64_t block = 0; block < plan.refcount_blocks; ++block) {
    RETURN_IF_ERROR(writer.PutEntry(plan.Bytes(plan.first_refcount_block() + block)));
  }
  RETURN_IF_ERROR(writer.PadTo(plan.Bytes(plan.first_refcount_block())));
  const uint64_t per_block = plan.geometry.refcounts_per_block();
  std::vector<std::byte> block(plan.geometry.cluster_bytes());
  for (uint64_t index = 0; index < per_block; ++index) {
    StoreRefcount(block.data(), index, plan.geometry.refcount_order, 1);
  }
  for (uint64_t counted = 0; counted < plan.clusters(); counted += per_block) {
    for (uint64_t unused = plan.clusters() - counted; unused < per_block; ++unused) {
      StoreRefcount(block.data(), unused, plan.geometry.refcount_order, 0);
    }
    RETURN_IF_ERROR(writer.Put(block));
  }
  return writer.PadTo(plan.Bytes(plan.l1_table()));
}

absl::Status WriteMapping(storage::Storage& file, const Plan& plan) {
  if (plan.l2_tables == 0) return absl::OkStatus();
  SequentialWriter writer(file, plan.Bytes(plan.l1_table()));
  for (uint64_t table = 0; table < plan.l2_tables; ++table) {
    RETURN_IF_ERROR(writer.PutEntry(plan.Bytes(plan.first_l2_table() + table) | kEntryCopied));
  }
  RETURN_IF_ERROR(writer.PadTo(plan.Bytes(plan.first_l2_table())));
  for (uint64_t cluster = 0; cluster < plan.data_clusters; ++cluster) {
    RETURN_IF_ERROR(writer.PutEntry(plan.Bytes(plan.first_data() + cluster) | kEntryCopied));
  }
  return writer.PadTo(plan.Bytes(plan.first_data()));
}

absl::Status ReserveData(storage::Storage& file, const Plan& plan, Preallocation preallocation) {
  const Range data = Range::FromTo(plan.Bytes(plan.first_data()), plan.Bytes(plan.clusters()));
  if (data.empty()) return absl::OkStatus();
  if (preallocation == Preallocation::kFalloc) {
    return file.WriteZeroes(data, {.may_unmap = false});
  }
  if (preallocation == Preallocation::kFull) {
    const std::vector<std::byte> zeroes(kWriteBytesMax);
    for (uint64_t at = data.offset_bytes; at < data.end_bytes(); at += kWriteBytesMax) {
      const uint64_t length = std::min<uint64_t>(kWriteBytesMax, data.end_bytes() - at);
      RETURN_IF_ERROR(file.Write(at, storage::ConstBytes(zeroes).subspan(0, length)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> MakeHeader(const Plan& plan, const CreateOptions& options) {
  Header header;
  header.version = options.version;
  header.geometry = plan.geometry;
  header.size_bytes = options.size_bytes;
  header.l1_entries = plan.l1_entries;
  header.l1_offset_bytes = plan.l1_entries == 0 ? 0 : plan.Bytes(plan.l1_table());
  header.refcount_table_offset_bytes = plan.Bytes(plan.refcount_table());
  header.refcount_table_clusters = plan.refcount_table_clusters;
  if (options.lazy_refcounts) header.compatible_features |= compatible_feature::kLazyRefcounts;
  header.compression_type = options.compression_type;
  if (options.compression_type != CompressionType::kZlib) {
    header.incompatible_features |= incompatible_feature::kCompressionType;
  }
  header.backing_file = options.backing_file;
  header.backing_format = options.backing_format;
  if (options.version >= 3) {
    // Names that help other programs to explain themselves: left out where clusters are too small.
    Header with_names = header;
    with_names.extensions.push_back(FeatureNameTable());
    absl::StatusOr<std::vector<std::byte>> bytes = SerializeHeader(with_names);
    if (bytes.ok()) return bytes;
  }
  return SerializeHeader(header);
}

absl::Status CheckPlan(const Plan& plan, const CreateOptions& options) {
  if (plan.Bytes(plan.refcount_table_clusters) > kRefcountTableBytesMax ||
      plan.clusters() > kHostOffsetEnd >> plan.geometry.cluster_bits) {
    return DoNotGoTogether(absl::StrCat("size ", options.size_bytes),
                           absl::StrCat("preallocation ", NameOf(options.preallocation)),
                           absl::StrCat("with cluster-size ", options.cluster_size_bytes,
                                        " the refcount table would be too large"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCreateOptions(const CreateOptions& options) {
  RETURN_IF_ERROR(CheckSupported(options));
  RETURN_IF_ERROR(CheckSizes(options));
  RETURN_IF_ERROR(CheckVersion(options));
  RETURN_IF_ERROR(CheckBacking(options));
  const Plan plan = MakePlan(options);
  RETURN_IF_ERROR(CheckPlan(plan, options));
  return MakeHeader(plan, options).status();
}

absl::Status Create(storage::Storage& file, const CreateOptions& options) {
  RETURN_IF_ERROR(CheckCreateOptions(options));
  const Plan plan = MakePlan(options);
  ASSIGN_OR_RETURN(const std::vector<std::byte> header, MakeHeader(plan, options));
  RETURN_IF_ERROR(MakeRoom(file, plan));
  RETURN_IF_ERROR(WriteRefcounts(file, plan));
  RETURN_IF_ERROR(WriteMapping(file, plan));
  RETURN_IF_ERROR(ReserveData(file, plan, options.preallocation));
  RETURN_IF_ERROR(file.Flush());
  RETURN_IF_ERROR(file.Write(0, header));
  return file.Flush();
}

}  // namespace tidemark::qcow2
