// Meets the alignment that a storage asks for, so that its users need not: the one place where
// requests are rounded out to whole sectors and read, modified and written back.
#ifndef ENGINE_STORAGE_ALIGNED_STORAGE_H_
#define ENGINE_STORAGE_ALIGNED_STORAGE_H_

#include <memory>

#include "engine/base/mutex.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

// `next` itself if it takes requests at any byte, else a storage that does, over `next`. The size
// of `next` must then be a multiple of its alignment (CHECKed). Unaligned writes exclude each other
// and aligned writes; aligned ones run side by side. Safe from any thread.
std::shared_ptr<Storage> WithAnyAlignment(std::shared_ptr<Storage> next);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_ALIGNED_STORAGE_H_
