// A qcow2 image: a disk stored in the clusters of a file, above a backing disk that shows through
// where it holds nothing. Safe from any number of threads; verbs may block, so only workers call
// them.
//
// What survives a crash (of us or of the machine): everything written before the last Flush. At
// any moment the file is a valid image that at worst has leaked clusters. Metadata is kept in
// memory until Flush, Close or a full cache writes it.
#ifndef ENGINE_FORMAT_QCOW2_IMAGE_H_
#define ENGINE_FORMAT_QCOW2_IMAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/base/range.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/limits.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

struct OpenOptions {
  bool read_only = false;
  // Freed clusters are given back to the file system (discard=unmap).
  bool discard_unmaps = false;
  uint64_t l2_cache_bytes = kL2CacheBytesDefault;
};

// Counted since open; for tests and curiosity.
struct Statistics {
  uint64_t clusters_allocated = 0;
  uint64_t clusters_freed = 0;
  uint64_t checkpoints = 0;
  uint64_t file_flushes = 0;
  uint64_t l2_slices_read = 0;
  uint64_t l2_bytes_written = 0;
  uint64_t refcount_blocks_read = 0;
  uint64_t refcount_bytes_written = 0;
};

struct Core;

class Image final : public storage::Storage {
 public:
  // Opens the image in `file`, which must hold no other open image and must grow where it is
  // written past its end. Nothing is written before the first change, but that an image marked
  // dirty has its refcounts rebuilt when it is opened for writing. Errors: those of ReadHeader;
  // kImageCorrupt also for tables that cannot be, and for an image marked corrupt that is not
  // opened read-only.
  static absl::StatusOr<std::unique_ptr<Image>> Open(std::shared_ptr<storage::Storage> file,
                                                     OpenOptions options);

  // Without Close: drops what was not flushed, as a crash would.
  ~Image() override;

  // A copy of the header as it stands.
  Header header() const;
  Statistics statistics() const;

  // What unallocated clusters read from; null for none (they read as zeroes, also if the header
  // names a backing file). Reads past the end of a shorter backing disk give zeroes. Before the
  // first request, or while no request is in flight (limits may be asked meanwhile). It is usually
  // the port of an edge of the graph, which can be led elsewhere without a word here.
  void SetBacking(std::shared_ptr<storage::Storage> backing);
  std::shared_ptr<storage::Storage> backing() const;
  // The backing disk, which has no bytes any more, counts as none from now on: unlike SetBacking
  // with requests in flight. Any thread.
  void ForgetBacking();

  // Changes what the header says, durably; the attached backing disk stays. An empty `name` says
  // there is none. INVALID_ARGUMENT if it does not fit.
  absl::Status ChangeBackingFile(absl::string_view name, absl::optional<std::string> format);

  // Makes everything durable. Afterwards only the destructor may be called. An image that is not
  // corrupt is clean, without leaks of ours.
  absl::Status Close();

  // ---- For what else lives in the file (the bitmaps extension). Any thread. ----

  // `count` adjacent clusters, with refcount one, of undefined content; returns the first's offset.
  // They are leaked unless something durable refers to them.
  absl::StatusOr<uint64_t> AllocateClusters(uint64_t count);
  // Gives clusters back (aligned, whole clusters). Nothing durable may refer to them any more.
  absl::Status FreeClusters(Range host_range);
  // The refcount of the cluster at `host_offset_bytes`; 0 for any that is not in use.
  absl::StatusOr<uint64_t> Refcount(uint64_t host_offset_bytes);
  // Bytes of the file itself. Writing must be confined to clusters that the caller allocated.
  absl::Status ReadMetadata(uint64_t host_offset_bytes, storage::Bytes buffer);
  absl::Status WriteMetadata(uint64_t host_offset_bytes, storage::ConstBytes data);
  // Lets `change` edit extensions, autoclear and compatible features of the header, then writes it
  // durably: all written before (metadata, clusters, refcounts) is durable before the header is. If
  // `change` fails, nothing happens.
  absl::Status UpdateHeader(const std::function<absl::Status(Header&)>& change);
  // Autoclear features in `bits` are somebody's who keeps them true: the first write will not clear
  // them. Call it before any write; without it all set autoclear bits are cleared by the first.
  void KeepAutoclearFeatures(uint64_t bits);

  // ---- Storage ----

  uint64_t size_bytes() const override;
  storage::Limits limits() const override;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override;
  // `options.compressed`: whole clusters (the disk's last may be partial), none of which may be
  // allocated in this image, else kIoError.
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override;
  // Multiples of 512. While there are internal snapshots shrinking is refused, and for version 2
  // all resizing (kFeatureUnsupported).
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<storage::Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;
  // Clusters that already have a place of their own keep it: their old bytes are gone once the new
  // are written, whether or not Finish is called.
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override;

 private:
  explicit Image(std::unique_ptr<Core> core);

  const std::unique_ptr<Core> core_;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_IMAGE_H_
