// A dirty bitmap with what surrounds its bits: name, whether it records, who uses it. Owned by the
// BitmapStore of a node, which alone changes it. Engine thread only; the bits themselves are safe
// from any thread.
#ifndef ENGINE_GRAPH_BITMAP_H_
#define ENGINE_GRAPH_BITMAP_H_

#include <cstdint>
#include <memory>
#include <string>

#include "engine/bitmap/dirty_bitmap.h"

namespace tidemark::graph {

class Bitmap {
 public:
  // Empty for an anonymous one: a successor, or a job's own.
  const std::string& name() const { return name_; }
  const std::shared_ptr<bitmap::DirtyBitmap>& bits() const { return bits_; }
  // Records writes, itself or by its successor.
  bool enabled() const { return enabled_; }
  // Stored in the image when the node closes.
  bool persistent() const { return persistent_; }
  // A job or an export uses it, or a transaction is about to remove it.
  bool busy() const { return busy_count_ > 0; }
  // The image was not closed cleanly: the bits mean nothing, and only removing it is allowed.
  bool inconsistent() const { return inconsistent_; }
  // Persistent in a read-only image.
  bool read_only() const { return read_only_; }
  // Records in its stead while a backup uses it; null otherwise.
  const Bitmap* successor() const { return successor_; }

 private:
  friend class BitmapStore;
  Bitmap() = default;

  std::string name_;
  std::shared_ptr<bitmap::DirtyBitmap> bits_;
  bool enabled_ = true;
  bool persistent_ = false;
  int busy_count_ = 0;
  bool inconsistent_ = false;
  bool read_only_ = false;
  // Of the same store.
  Bitmap* successor_ = nullptr;
};

// What queries show of a bitmap.
struct BitmapInfo {
  std::string name;  // Empty for an anonymous one.
  // Dirty granules times granularity: may exceed the disk's size.
  uint64_t count_bytes = 0;
  uint64_t granularity_bytes = 0;
  bool recording = false;
  bool busy = false;
  bool persistent = false;
  bool inconsistent = false;
};

// What becomes of a bitmap after a backup that used it.
enum class BitmapSyncMode { kOnSuccess, kAlways, kNever };

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_BITMAP_H_
