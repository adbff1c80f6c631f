#include "engine/format/qcow2/header_store.h"

#include "engine/base/endian.h"
#include "engine/base/status_macros.h"

namespace tidemark::qcow2 {

absl::Status HeaderStore::Patch(const std::function<void(Header&)>& change) {
  MutexLock turn(&turn_);
  Header changed = Get();
  change(changed);
  std::vector<std::byte> sector(512);
  RETURN_IF_ERROR(file_.Read(0, absl::MakeSpan(sector)));
  const auto store32 = [&](size_t at, uint32_t value) {
    StoreBigEndian(sector.data() + at, value);
  };
  const auto store64 = [&](size_t at, uint64_t value) {
    StoreBigEndian(sector.data() + at, value);
  };
  store64(header_field::kSize, changed.size_bytes);
  store32(header_field::kL1Entries, changed.l1_entries);
  store64(header_field::kL1TableOffset, changed.l1_offset_bytes);
  store64(header_field::kRefcountTableOffset, changed.refcount_table_offset_bytes);
  store32(header_field::kRefcountTableClusters, changed.refcount_table_clusters);
  if (changed.version >= 3) {
    store64(header_field::kIncompatibleFeatures, changed.incompatible_features);
    store64(header_field::kCompatibleFeatures, changed.compatible_features);
    store64(header_field::kAutoclearFeatures, changed.autoclear_features);
  }
  return WriteAndKeep(std::move(changed), sector);
}

absl::Status HeaderStore::Rewrite(const std::function<absl::Status(Header&)>& change) {
  MutexLock turn(&turn_);
  Header changed = Get();
  RETURN_IF_ERROR(change(changed));
  ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, SerializeHeader(changed));
  return WriteAndKeep(std::move(changed), bytes);
}

absl::Status HeaderStore::WriteAndKeep(Header changed, storage::ConstBytes bytes) {
  RETURN_IF_ERROR(file_.Write(0, bytes, {}));
  RETURN_IF_ERROR(file_.Flush());
  MutexLock lock(&mutex_);
  header_ = std::move(changed);
  return absl::OkStatus();
}

}  // namespace tidemark::qcow2
