// The parts of an open image, and the internal verbs that work on them: image.h is their front.
// Ranges given to these verbs are within the disk; who calls them has entered an epoch.
#ifndef ENGINE_FORMAT_QCOW2_CORE_H_
#define ENGINE_FORMAT_QCOW2_CORE_H_

#include <atomic>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/qcow2/checkpoint.h"
#include "engine/format/qcow2/counters.h"
#include "engine/format/qcow2/free_queue.h"
#include "engine/format/qcow2/header_store.h"
#include "engine/format/qcow2/health.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/metadata_map.h"
#include "engine/format/qcow2/range_claims.h"
#include "engine/format/qcow2/refcounts.h"
#include "engine/format/qcow2/request_epochs.h"
#include "engine/format/qcow2/tables.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

struct Core {
  // `data_file` may be the same as `file`.
  Core(std::shared_ptr<storage::Storage> file, std::shared_ptr<storage::Storage> data_file,
       Header header, OpenOptions options);

  // Reads the tables.
  absl::Status Load();

  // The image may be written; before the first write, features that other programs keep are
  // declared broken.
  absl::Status CheckWritable() {
    if (!settled.load(std::memory_order_acquire)) [[unlikely]] {
      if (absl::Status status = Settle(); !status.ok()) return status;
    }
    return health.CheckWritable();
  }
  absl::Status Settle();

  // Unallocated clusters show, or may once again show, something else than zeroes.
  bool MayShowBacking() const { return has_backing.load() || names_backing.load(); }

  // Constant after construction.
  // Headers, tables and refcounts; and the clusters of the disk, which every image that is accepted
  // keeps in the same file.
  const std::shared_ptr<storage::Storage> file;
  const std::shared_ptr<storage::Storage> data_file;
  const OpenOptions options;
  const Geometry geometry;
  const uint32_t version;
  const CompressionType compression_type;

  // Changed only while there are no requests.
  std::shared_ptr<storage::Storage> backing;

  // Their own synchronisation.
  std::atomic<uint64_t> size_bytes;
  std::atomic<bool> names_backing;
  // Of `backing`, for who asks while it is exchanged.
  std::atomic<bool> has_backing = false;
  // How long `backing` was when Map last asked. A hint that saves asking: what is beneath may be
  // longer by now, so that nothing is concluded from an offset beyond it, or shorter, and then it
  // refuses what is past its end.
  std::atomic<uint64_t> backing_seen_bytes = 0;
  std::atomic<bool> settled = false;
  std::atomic<uint64_t> kept_autoclear_features = 0;
  Mutex settling;
  HeaderStore header;
  Health health;
  Counters counters;
  MetadataMap metadata;
  RequestEpochs epochs;
  RangeClaims claims;
  FreeQueue frees;
  std::unique_ptr<Refcounts> refcounts;  // Null if the image is only read.
  Tables tables;
  std::unique_ptr<Checkpointer> checkpointer;  // Null if the image is only read.
};

// reading.cc
// Whether a request failed because the disk beneath has become shorter than `*size_bytes`, which it
// had when it was asked for the request: images may be taken out of a chain meanwhile. Then
// `*size_bytes` is what it has now.
bool HasShrunk(const storage::Storage& beneath, const absl::Status& status, uint64_t* size_bytes);
absl::Status ReadDisk(Core& core, uint64_t offset_bytes, storage::Bytes buffer);
absl::StatusOr<storage::Extent> MapDisk(Core& core, Range range);

// writing.cc
absl::Status WriteDisk(Core& core, uint64_t offset_bytes, storage::ConstBytes data);
// The next two: whole clusters, of which the disk's last may be partial.
// Leaves clusters alone that are not unallocated.
absl::Status WriteUnallocated(Core& core, uint64_t offset_bytes, storage::ConstBytes data);
absl::Status WriteCompressed(Core& core, uint64_t offset_bytes, storage::ConstBytes data);

// zeroing.cc
absl::Status ZeroDisk(Core& core, Range range, storage::ZeroOptions options);
// As WriteUnallocated.
absl::Status ZeroUnallocated(Core& core, Range range, storage::ZeroOptions options);
absl::Status DiscardDisk(Core& core, Range range);
// Lets go of whole clusters, so that they show what is beneath.
absl::Status UnmapClusters(Core& core, Range range);

// resizing.cc
absl::Status ResizeDisk(Core& core, uint64_t size_bytes);

// placing.cc
absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceDiskRead(Core& core, Range range);
absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceDiskWrite(Core& core, Range range);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_CORE_H_
