// The memory that bits take: the bitmaps of all nodes, and what copies keep beside them to know
// what is still to be copied. Engine thread.
#ifndef ENGINE_NATIVE_BITMAP_MEMORY_H_
#define ENGINE_NATIVE_BITMAP_MEMORY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "engine/graph/node.h"
#include "engine/native/engine.h"

namespace tidemark::native {

// LIMIT_REACHED if all of it takes as much as it may already: then `bitmap` is not added to `node`.
absl::Status CheckMemoryForBitmap(const Engine& engine, const std::string& node,
                                  const std::string& bitmap);

// LIMIT_REACHED if with what a copy has to remember, `bytes` of it, it would take more than it may:
// then the job is not begun, unless it is the only one, which may be what makes bitmaps small
// again. Otherwise the bytes count with the bitmaps of `node` until its
// bitmaps().CountNoMore(owner).
absl::Status CountBits(const Engine& engine, graph::Node* node, const std::string& job_id,
                       const void* owner, std::function<uint64_t()> bytes);

// The same for as long as there is `copy`: it goes with its job, which may be a little before the
// job's link lets go of the node.
template <typename Copy>
absl::Status CountBitsOfCopy(const Engine& engine, graph::Node* node, const std::string& job_id,
                             const void* owner, const std::shared_ptr<Copy>& copy) {
  return CountBits(engine, node, job_id, owner, [weak = std::weak_ptr<Copy>(copy)]() -> uint64_t {
    const std::shared_ptr<Copy> there = weak.lock();
    return there == nullptr ? 0 : there->bitmap_bytes();
  });
}

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_BITMAP_MEMORY_H_
