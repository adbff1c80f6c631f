// The memory of sparse bits: chunks of words, and nodes that point to chunks. Both are counted, so
// that several bitmaps can share what is equal: what has more than one reference never changes.
//
// Type-stable: what was once a chunk or a node stays readable as one until the pool is destroyed,
// whoever has let go of it, since readers who take no lock may still be looking (sparse_bits.cc).
// The pages of chunks that nobody holds go back to the system all the same.
//
// Thread rule: all methods from any thread. Fields of a chunk or node are changed only by who holds
// the only reference, under the lock of the bits that hold it.
#ifndef ENGINE_BITMAP_CHUNK_POOL_H_
#define ENGINE_BITMAP_CHUNK_POOL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/bitmap/limits.h"

namespace tidemark::bitmap {

struct Chunk {
  uint64_t* words = nullptr;
  std::atomic<uint32_t> references = 0;
  // Never less than the number of bits set: raised before one is, lowered after.
  std::atomic<uint32_t> ones = 0;
};

struct Node;

// Stand for "all bits are 1", as far as there are bits; null stands for "all are 0". Never looked
// into.
inline Chunk* OnesChunk() { return reinterpret_cast<Chunk*>(alignof(Chunk)); }
inline uint64_t* OnesWords() { return reinterpret_cast<uint64_t*>(alignof(uint64_t)); }
inline Node* OnesNode() { return reinterpret_cast<Node*>(alignof(uint64_t)); }
inline bool IsReal(const Chunk* chunk) { return chunk != nullptr && chunk != OnesChunk(); }
inline bool IsReal(const uint64_t* words) { return words != nullptr && words != OnesWords(); }
inline bool IsReal(const Node* node) { return node != nullptr && node != OnesNode(); }

struct Node {
  // What readers follow: the words of each chunk.
  std::array<std::atomic<uint64_t*>, kNodeChunks> words = {};
  // For those who change bits.
  std::array<std::atomic<Chunk*>, kNodeChunks> chunks = {};
  std::atomic<uint32_t> references = 0;
  uint64_t ones = 0;

  Chunk* chunk(uint64_t index) const { return chunks[index].load(std::memory_order_acquire); }
  void Put(uint64_t index, Chunk* chunk) {
    chunks[index].store(chunk, std::memory_order_release);
    words[index].store(chunk == nullptr       ? nullptr
                       : chunk == OnesChunk() ? OnesWords()
                                              : chunk->words,
                       std::memory_order_release);
  }
};

class ChunkPool {
 public:
  ChunkPool() = default;
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  // With one reference. `ones` of the first bits are set, the others are not.
  Chunk* NewChunk(uint32_t ones);
  Chunk* CloneChunk(const Chunk& chunk);
  // Over words that belong to somebody else; for nodes that are never shared.
  Chunk* LentChunk(uint64_t* words, uint32_t ones);
  // With one reference and no chunks.
  Node* NewNode();
  // Shares the chunks.
  Node* CloneNode(const Node& node);

  // One reference less. The caller's slot no longer leads there, and its readers can tell.
  void Release(Chunk* chunk);
  void Release(Node* node);

  // What was made and copied since the pool was: for tests, which count it.
  uint64_t chunks_made() const { return chunks_made_.load(std::memory_order_relaxed); }
  uint64_t chunks_cloned() const { return chunks_cloned_.load(std::memory_order_relaxed); }
  uint64_t nodes_cloned() const { return nodes_cloned_.load(std::memory_order_relaxed); }

 private:
  Chunk* TakeChunk();

  std::atomic<uint64_t> chunks_made_ = 0;
  std::atomic<uint64_t> chunks_cloned_ = 0;
  std::atomic<uint64_t> nodes_cloned_ = 0;

  Mutex mutex_;
  std::vector<void*> slabs_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_slab_chunks_ ABSL_GUARDED_BY(mutex_) = 1;
  std::deque<Chunk> chunks_ ABSL_GUARDED_BY(mutex_);
  std::deque<Node> nodes_ ABSL_GUARDED_BY(mutex_);
  std::deque<Chunk*> free_chunks_ ABSL_GUARDED_BY(mutex_);
  std::vector<Node*> free_nodes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_CHUNK_POOL_H_
