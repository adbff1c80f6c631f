// What stands behind a node: an open file, an image format over a file, a filter. engine/native
// makes drivers and gives them to the graph.
//
// Thread rule: stated per method. A driver is destroyed after Close, on any thread.
#ifndef ENGINE_GRAPH_DRIVER_H_
#define ENGINE_GRAPH_DRIVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/graph/permissions.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

// A persistent bitmap on its way from an image (when a node is added) or to it (when it closes).
struct StoredBitmap {
  std::string name;
  bool enabled = true;
  // It was in use when its writer died: its bits mean nothing. It is kept until it is removed.
  bool inconsistent = false;
  std::shared_ptr<bitmap::DirtyBitmap> bits;
};

// What an image has to know of a bitmap to make room for it.
struct BitmapShape {
  std::string name;
  uint64_t granularity_bytes = 0;
};

class Driver {
 public:
  virtual ~Driver() = default;

  // The driver as clients name it: "file", "qcow2", "copy-before-write". Any thread.
  virtual absl::string_view name() const = 0;
  // The file's path or what QEMU would show in its place; may be empty. Any thread.
  virtual std::string filename() const { return ""; }
  // Shows the disk in its child `file` as it is, all of it and nothing of its own: raw that is no
  // window, copy-before-write. Any thread.
  virtual bool is_filter() const { return false; }
  // The data, without bitmaps and node options: the node adds those. The same object always. Any
  // thread.
  virtual std::shared_ptr<storage::Storage> storage() = 0;

  // The node's users changed what they need and share. Engine thread: must not wait. After a
  // refusal elsewhere it is called again with the old permissions, which it must accept.
  virtual absl::Status SetPermissions(const Permissions&) { return absl::OkStatus(); }
  // Does what the last SetPermissions asks for and what may wait for a disk: a file changes its
  // image locks here, and refuses with IMAGE_LOCKED if another process stands against it. Then
  // nothing has changed, and the graph is to be told (lock_changes.h). Worker.
  virtual absl::Status ApplyPermissions() { return absl::OkStatus(); }

  // What the disk shows where it holds nothing itself is another disk from now on, or zeroes
  // (null). For drivers with a backing disk; nothing at all is in flight at the node. Engine
  // thread: must not wait.
  virtual void SetBacking(std::shared_ptr<storage::Storage>) {}
  // The backing disk that it has shows nothing any more, and has become a disk of no bytes: it is
  // as if there were none. Requests may be in flight. Engine thread: must not wait.
  virtual void ForgetBacking() {}

  // Whether these bitmaps (all persistent ones of the node, the newest last) can be stored together
  // in the image when it closes, if its disk has `size_bytes` then. Any thread: must not wait.
  virtual absl::Status CheckStorable(absl::string_view node_name,
                                     absl::Span<const BitmapShape> bitmaps, uint64_t size_bytes);
  // Deletes a bitmap from the image file, if it is there. Worker.
  virtual absl::Status RemoveStored(absl::string_view) { return absl::OkStatus(); }

  // Puts `bitmaps` (all persistent ones of the node, in the order to write) into the image ahead of
  // Close, while everything can still go on: nobody uses the node meanwhile. An error names the
  // first that could not be stored; all are as before then. Worker.
  virtual absl::Status StoreBitmaps(std::vector<StoredBitmap>) { return absl::OkStatus(); }
  // The node is used again after all. Worker.
  virtual absl::Status KeepUsingBitmaps() { return absl::OkStatus(); }

  // Writes back what is cached and, but for what StoreBitmaps has stored, as many of `bitmaps` as
  // can be, and lets go of files and locks. Nothing is in flight, and nothing comes afterwards.
  // Once. Worker.
  virtual absl::Status Close(std::vector<StoredBitmap> bitmaps) = 0;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_DRIVER_H_
