#include "engine/format/qcow2/core.h"

#include <utility>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::qcow2 {

Core::Core(std::shared_ptr<storage::Storage> image_file,
           std::shared_ptr<storage::Storage> disk_file, Header parsed, OpenOptions open_options)
    : file(std::move(image_file)),
      data_file(std::move(disk_file)),
      options(open_options),
      geometry(parsed.geometry),
      version(parsed.version),
      compression_type(parsed.compression_type),
      size_bytes(parsed.size_bytes),
      names_backing(!parsed.backing_file.empty()),
      header(file.get(), std::move(parsed)),
      metadata(geometry),
      frees(geometry.cluster_bytes()),
      refcounts(options.read_only ? nullptr
                                  : std::make_unique<Refcounts>(file.get(), &header, &metadata,
                                                                &health, &counters)),
      tables(file.get(), data_file.get(), &header, refcounts.get(), &metadata, &health, &counters,
             &frees, options.l2_cache_bytes),
      checkpointer(options.read_only
                       ? nullptr
                       : std::make_unique<Checkpointer>(
                             file.get(), data_file.get(), refcounts.get(), &tables, &frees, &epochs,
                             &counters, geometry.cluster_bytes(), options.discard_unmaps)) {}

absl::Status Core::Load() {
  const Header parsed = header.Get();
  metadata.Add({0, geometry.cluster_bytes()});
  const Range tables_of_header[] = {
      {parsed.l1_offset_bytes, uint64_t{parsed.l1_entries} * 8},
      {parsed.refcount_table_offset_bytes,
       uint64_t{parsed.refcount_table_clusters} << geometry.cluster_bits},
      {parsed.snapshots_offset_bytes, uint64_t{parsed.snapshot_count} * 40}};
  for (const Range& range : tables_of_header) {
    if (!metadata.Add(range)) return health.Corrupt("the tables named by the header overlap");
  }
  if (refcounts != nullptr) RETURN_IF_ERROR(refcounts->Load());
  return tables.Load();
}

absl::Status Core::Settle() {
  if (options.read_only) {
    return Error(Reason::kNodeReadOnly, "qcow2 image is open for reading only");
  }
  MutexLock lock(&settling);
  if (settled.load()) return absl::OkStatus();
  const uint64_t kept = kept_autoclear_features.load();
  if ((header.Get().autoclear_features & ~kept) != 0) {
    RETURN_IF_ERROR(header.Patch([&](Header& patched) { patched.autoclear_features &= kept; }));
  }
  settled.store(true, std::memory_order_release);
  return absl::OkStatus();
}

}  // namespace tidemark::qcow2
