// What an NBD client sees under one name: a disk, and the facts about it that may be asked for.
// A plain value.
#ifndef ENGINE_NBD_EXPORT_H_
#define ENGINE_NBD_EXPORT_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/bitmap/dirty_bitmap.h"
#include "engine/storage/storage.h"

namespace tidemark::nbd {

struct Export {
  // A bitmap that clients may read as the context qemu:dirty-bitmap:<name>.
  struct Bitmap {
    std::string name;
    std::shared_ptr<const bitmap::DirtyBitmap> bitmap;
  };

  // At most kNameBytesMax bytes; empty is a legal name. Unique within a server.
  std::string name;
  // For people; empty for none.
  std::string description;
  // Used from many threads at once. Its size must not change while it is exported: clients are
  // told once. Let go of when the export is removed.
  std::shared_ptr<storage::Storage> storage;
  // False refuses every change with EPERM, whatever the storage would allow.
  bool writable = false;
  std::vector<Bitmap> bitmaps;
  // Offers the context qemu:allocation-depth.
  bool allocation_depth = false;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_EXPORT_H_
