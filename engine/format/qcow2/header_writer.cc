#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {
namespace {

constexpr size_t kExtensionHeaderBytes = 8;
constexpr size_t kFeatureNameBytes = 48;  // u8 kind, u8 bit, name padded with NULs.

size_t PaddedTo8(size_t length) { return (length + 7) & ~size_t{7}; }

void Append(std::vector<std::byte>* out, absl::string_view bytes) {
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  out->insert(out->end(), begin, begin + bytes.size());
}

void AppendExtension(std::vector<std::byte>* out, uint32_t type, absl::string_view data) {
  std::byte head[kExtensionHeaderBytes];
  StoreBigEndian<uint32_t>(head, type);
  StoreBigEndian<uint32_t>(head + 4, static_cast<uint32_t>(data.size()));
  out->insert(out->end(), std::begin(head), std::end(head));
  Append(out, data);
  out->resize(PaddedTo8(out->size()));
}

std::vector<std::byte> SerializeFixedFields(const Header& header) {
  std::vector<std::byte> out(header.version == 2 ? header_field::kVersion2End
                                                 : header_field::kVersion3Length);
  const auto store32 = [&](size_t at, uint32_t value) { StoreBigEndian(out.data() + at, value); };
  const auto store64 = [&](size_t at, uint64_t value) { StoreBigEndian(out.data() + at, value); };
  store32(header_field::kMagic, kMagic);
  store32(header_field::kVersion, header.version);
  store32(header_field::kClusterBits, header.geometry.cluster_bits);
  store64(header_field::kSize, header.size_bytes);
  store32(header_field::kCryptMethod, header.crypt_method);
  store32(header_field::kL1Entries, header.l1_entries);
  store64(header_field::kL1TableOffset, header.l1_offset_bytes);
  store64(header_field::kRefcountTableOffset, header.refcount_table_offset_bytes);
  store32(header_field::kRefcountTableClusters, header.refcount_table_clusters);
  store32(header_field::kSnapshotCount, header.snapshot_count);
  store64(header_field::kSnapshotsOffset, header.snapshots_offset_bytes);
  if (header.version == 2) return out;
  store64(header_field::kIncompatibleFeatures, header.incompatible_features);
  store64(header_field::kCompatibleFeatures, header.compatible_features);
  store64(header_field::kAutoclearFeatures, header.autoclear_features);
  store32(header_field::kRefcountOrder, header.geometry.refcount_order);
  out[header_field::kCompressionType] = static_cast<std::byte>(header.compression_type);
  Append(&out, header.unknown_fields);
  store32(header_field::kHeaderLength, static_cast<uint32_t>(out.size()));
  return out;
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> SerializeHeader(const Header& header) {
  if (header.backing_file.size() > kBackingFileNameMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("backing file name of ", header.backing_file.size(),
                              " bytes is longer than ", kBackingFileNameMax));
  }
  if (header.backing_format.has_value() && header.backing_format->size() > kBackingFormatMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("backing format name \"", *header.backing_format, "\" is too long"));
  }
  std::vector<std::byte> out = SerializeFixedFields(header);
  if (header.backing_format.has_value()) {
    AppendExtension(&out, extension_type::kBackingFormat, *header.backing_format);
  }
  for (const HeaderExtension& extension : header.extensions) {
    AppendExtension(&out, extension.type, extension.data);
  }
  AppendExtension(&out, extension_type::kEnd, "");
  if (!header.backing_file.empty()) {
    StoreBigEndian<uint64_t>(out.data() + header_field::kBackingFileOffset, out.size());
    StoreBigEndian<uint32_t>(out.data() + header_field::kBackingFileSize,
                             static_cast<uint32_t>(header.backing_file.size()));
    Append(&out, header.backing_file);
  }
  if (out.size() > header.geometry.cluster_bytes()) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("qcow2 header of ", out.size(), " bytes (backing file name of ",
                              header.backing_file.size(), ") does not fit in a cluster of ",
                              header.geometry.cluster_bytes()));
  }
  out.resize((out.size() + 511) & ~size_t{511});
  return out;
}

HeaderExtension FeatureNameTable() {
  struct Name {
    uint8_t kind;
    uint8_t bit;
    absl::string_view name;
  };
  constexpr Name kNames[] = {
      {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
      {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
      {2, 0, "bitmaps"},          {2, 1, "raw external data"}};
  HeaderExtension extension{extension_type::kFeatureNames, ""};
  for (const Name& name : kNames) {
    extension.data.push_back(static_cast<char>(name.kind));
    extension.data.push_back(static_cast<char>(name.bit));
    absl::StrAppend(&extension.data, name.name,
                    std::string(kFeatureNameBytes - 2 - name.name.size(), '\0'));
  }
  return extension;
}

}  // namespace tidemark::qcow2
