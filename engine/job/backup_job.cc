#include "engine/job/backup_job.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/bitmap/limits.h"

namespace tidemark::job {
namespace {

absl::Status CheckDisks(const BackupOptions& options, const BackupParts& parts,
                        uint64_t source_bytes) {
  const uint64_t target_bytes = parts.target->size_bytes();
  if (source_bytes != target_bytes) {
    return Error(
        Reason::kSizeMismatch,
        absl::StrCat("backup job '", options.job_id, "': source node '", parts.source_node,
                     "' has ", source_bytes, " bytes, but target node '", parts.target_node,
                     "' has ", target_bytes),
        {{"job", options.job_id}, {"source", parts.source_node}, {"target", parts.target_node}});
  }
  if (options.compress && !parts.target->limits().can_write_compressed) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("backup job '", options.job_id, "': target node '", parts.target_node,
                              "' cannot store compressed data"),
                 {{"job", options.job_id}, {"node", parts.target_node}});
  }
  return absl::OkStatus();
}

// What is still to be copied is kept in memory.
absl::Status CheckSize(const BackupOptions& options, const BackupParts& parts,
                       uint64_t source_bytes, uint64_t cluster_bytes) {
  if (bitmap::DirtyBitmap::GranuleCount(source_bytes, cluster_bytes) <= bitmap::kGranuleCountMax) {
    return absl::OkStatus();
  }
  return Error(Reason::kLimitReached,
               absl::StrCat("backup job '", options.job_id, "': source node '", parts.source_node,
                            "' of ", source_bytes, " bytes is too large for copies in units of ",
                            cluster_bytes, " bytes"),
               {{"job", options.job_id}, {"node", parts.source_node}});
}

absl::StatusOr<std::unique_ptr<bitmap::DirtyBitmap>> WhatToCopy(const BackupOptions& options,
                                                                const BackupParts& parts,
                                                                uint64_t source_bytes,
                                                                uint64_t cluster_bytes) {
  const bool by_bitmap =
      options.sync == SyncMode::kIncremental || options.sync == SyncMode::kBitmap;
  if (!by_bitmap) {
    auto to_copy = std::make_unique<bitmap::DirtyBitmap>(source_bytes, cluster_bytes);
    to_copy->SetAll();
    return to_copy;
  }
  if (parts.bits->size_bytes() != source_bytes) {
    return Error(Reason::kSizeMismatch,
                 absl::StrCat("backup job '", options.job_id, "': source node '", parts.source_node,
                              "' has ", source_bytes, " bytes, but its bitmap stands for ",
                              parts.bits->size_bytes()),
                 {{"job", options.job_id}, {"source", parts.source_node}});
  }
  if (parts.early_bits != nullptr && parts.early_bits->granularity_bytes() == cluster_bytes) {
    return parts.early_bits->Finish(*parts.bits);
  }
  return parts.bits->CopyWithGranularity(cluster_bytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BackupJob>> BackupJob::Make(const BackupOptions& options,
                                                           BackupParts parts, CopyHooks hooks) {
  // Asked once: until the filter is in its place, the source may grow at any moment.
  const uint64_t source_bytes = parts.source->size_bytes();
  RETURN_IF_ERROR(CheckDisks(options, parts, source_bytes));
  copy::CopyOptions copy;
  copy.cluster_bytes = UnitBytes(options, parts.target->limits());
  RETURN_IF_ERROR(ValidatePerformance(options, copy.cluster_bytes));
  RETURN_IF_ERROR(CheckSize(options, parts, source_bytes, copy.cluster_bytes));
  copy.only_top_layer = options.sync == SyncMode::kTop;
  copy.only_guest_writes = options.sync == SyncMode::kNone;
  copy.write_through = parts.target_shows_source;
  if (copy.write_through) copy.await_target_reads = parts.await_target_reads;
  copy.target_is_zero = parts.target_is_zero && !parts.target_shows_source;
  copy.compress = options.compress;
  if (options.max_chunk_bytes.value_or(0) > 0) copy.chunk_bytes_max = *options.max_chunk_bytes;
  if (options.max_workers.has_value()) {
    copy.workers_max = static_cast<int>(*options.max_workers);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<bitmap::DirtyBitmap> to_copy,
                   WhatToCopy(options, parts, source_bytes, copy.cluster_bytes));
  std::shared_ptr<copy::BlockCopy> block_copy = copy::BlockCopy::Make(
      parts.source, parts.target, std::move(to_copy), copy, parts.workers, parts.clock);
  // Not make_unique: the constructor is private.
  return std::unique_ptr<BackupJob>(new BackupJob(std::move(block_copy), std::move(hooks)));
}

uint64_t BackupJob::UnitBytes(const BackupOptions& options, const storage::Limits& target) {
  return std::max(copy::CopyClusterBytes(target), options.min_cluster_bytes);
}

}  // namespace tidemark::job
