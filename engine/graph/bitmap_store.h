// The bitmaps of one node: adds, removes and changes them by name, and hands them over when a
// backup ends. Engine thread only. Refusals leave everything as it was.
//
// Writes that are in flight while a bitmap changes are counted on either side of the change. Where
// that matters (a backup starts; several changes are one) the node's gates are closed meanwhile
// (quiesce.h).
#ifndef ENGINE_GRAPH_BITMAP_STORE_H_
#define ENGINE_GRAPH_BITMAP_STORE_H_

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/graph/bitmap.h"
#include "engine/graph/change.h"
#include "engine/graph/driver.h"
#include "engine/graph/tracking.h"

namespace tidemark::graph {

// What somebody wants of a bitmap: it decides which states refuse it.
enum class BitmapUse {
  kRead,    // Merge source, export, backup that never changes it: busy and inconsistent refuse.
  kModify,  // Clear, merge target, other backups: read-only refuses, too.
  kRemove,  // Busy and read-only refuse.
};

class BitmapStore {
 public:
  struct AddRequest {
    std::string name;
    absl::optional<uint64_t> granularity_bytes;  // Absent: from the cluster size.
    bool persistent = false;
    bool disabled = false;
  };

  // `driver` is asked about size, clusters and storing; it must live as long as the store.
  BitmapStore(std::string node_name, bool node_read_only, Driver* driver,
              std::shared_ptr<TrackedBitmaps> tracked);
  // The node's driver has been exchanged: the bitmaps stay, and take on the size of the new disk.
  // Persistent ones are as read-only as the node is now.
  void ChangeDriver(Driver* driver, bool node_read_only);
  // In the order of the image's directory; the last one counts as the newest. Part of making a
  // node.
  void Load(std::vector<StoredBitmap> bitmaps);

  // A new bitmap is clean. INVALID_ARGUMENT for name and granularity, BITMAP_EXISTS, LIMIT_REACHED,
  // and what the driver says of persistent ones.
  absl::StatusOr<Change> Add(const AddRequest& request);
  // Reserved: the bitmap is busy until commit, which removes it. The image's copy of a persistent
  // one is deleted by Driver::RemoveStored, on a worker, after the commit.
  absl::StatusOr<Change> Remove(absl::string_view name);
  absl::StatusOr<Change> Clear(absl::string_view name);
  // Enabling what is enabled, and disabling what is disabled, is fine.
  absl::StatusOr<Change> Enable(absl::string_view name);
  absl::StatusOr<Change> Disable(absl::string_view name);
  // ORs `sources`, of this or other nodes, into the bitmap. INVALID_ARGUMENT if there are none,
  // SIZES_DIFFER.
  absl::StatusOr<Change> Merge(absl::string_view target, absl::Span<const Bitmap* const> sources);

  // BITMAP_NOT_FOUND. Valid until removed. Its bits are of the disk's size: where the disk can
  // change its size by itself (a raw node over a file that grows), they follow now.
  absl::StatusOr<Bitmap*> Find(absl::string_view name);
  // OK, or BITMAP_BUSY, BITMAP_INCONSISTENT, BITMAP_READ_ONLY.
  absl::Status Check(const Bitmap& bitmap, BitmapUse use) const;
  // Newest first, anonymous ones included.
  std::vector<BitmapInfo> List() const;
  // What the bits of all take, and those that are counted with them.
  uint64_t memory_bytes() const;
  // Bits that a job keeps about the disk beside its bitmaps, as a copy does: `bytes`, which any
  // thread may call at any time, counts with them until CountNoMore. One for each `owner`.
  void CountAlso(const void* owner, std::function<uint64_t()> bytes);
  void CountNoMore(const void* owner);
  bool counts_others() const { return !counted_also_.empty(); }
  // BITMAP_INCONSISTENT if one of them forbids changing the disk's size, LIMIT_REACHED if one of
  // them cannot follow to `size_bytes`.
  absl::Status CheckResize(uint64_t size_bytes) const;
  // All take on the size of the disk: grown space is clean, what is cut off is forgotten. One that
  // cannot, because it would have too many granules, is inconsistent from now on.
  void FollowDisk();
  uint64_t default_granularity_bytes() const;
  // Persistent ones for Driver::Close, newest first, as QEMU writes them: so a reload reverses the
  // order in which they are listed.
  std::vector<StoredBitmap> Stored() const;

  // A job's own bitmap: listed, without a name, until dropped. `granularity_bytes` as for Add.
  absl::StatusOr<Bitmap*> AddAnonymous(uint64_t granularity_bytes, bool enabled);
  void DropAnonymous(Bitmap* bitmap);

  // An export uses the bitmap: busy, but it goes on recording. Counted.
  void BeginUse(Bitmap* bitmap) { ++bitmap->busy_count_; }
  void EndUse(Bitmap* bitmap) { --bitmap->busy_count_; }

  // A backup begins to use the bitmap, with the node's gates closed and after Check: its bits stand
  // still, it is busy, and a successor records in its stead if it is enabled.
  void CreateSuccessor(Bitmap* bitmap);
  // The transaction that would have used it is undone: as if it had not been.
  void UndoSuccessor(Bitmap* bitmap);
  // The backup is over. With S the bits at the start, W the writes since, U what was not copied
  // (`not_copied`, of any granularity; used by kAlways after failure only, and may be null
  // otherwise), the bitmap becomes:
  //   kOnSuccess: W after success, S or W after failure
  //   kAlways:    W after success, U or W after failure
  //   kNever:     S or W
  void HandOver(Bitmap* bitmap, BitmapSyncMode mode, bool success,
                const bitmap::DirtyBitmap* not_copied);

 private:
  absl::StatusOr<Bitmap*> FindFor(absl::string_view name, BitmapUse use);
  bool CanFollow(const Bitmap& bitmap, uint64_t size_bytes) const;
  absl::StatusOr<Change> SetEnabled(absl::string_view name, bool enabled);
  bool Has(absl::string_view name) const;
  absl::Status CheckAdd(const AddRequest& request, uint64_t size_bytes,
                        uint64_t granularity_bytes) const;
  absl::Status CheckGranularity(absl::string_view name, uint64_t size_bytes,
                                uint64_t granularity_bytes) const;
  // A new one, recording unless `enabled` is false; not published yet.
  Bitmap* Insert(std::string name, std::shared_ptr<bitmap::DirtyBitmap> bits, bool enabled);
  std::vector<BitmapShape> PersistentShapes() const;
  uint64_t size_bytes() const;
  void Erase(Bitmap* bitmap);
  // Tells the data plane which bits to mark.
  void Publish();

  // Constant after construction.
  const std::string node_name_;
  const std::shared_ptr<TrackedBitmaps> tracked_;

  bool node_read_only_;
  Driver* driver_;

  // Oldest first.
  std::list<std::unique_ptr<Bitmap>> bitmaps_;
  std::map<const void*, std::function<uint64_t()>> counted_also_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_BITMAP_STORE_H_
