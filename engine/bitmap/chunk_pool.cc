#include "engine/bitmap/chunk_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "engine/base/check.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {

ChunkPool::~ChunkPool() {
  for (void* slab : slabs_) std::free(slab);
}

Chunk* ChunkPool::TakeChunk() {
  MutexLock lock(&mutex_);
  if (free_chunks_.empty()) {
    // Small bitmaps need one chunk; large ones are not to ask for each.
    const uint64_t count = next_slab_chunks_;
    next_slab_chunks_ = std::min(2 * count, kSlabChunksMax);
    auto* const words =
        static_cast<uint64_t*>(std::aligned_alloc(kChunkBytes, count * kChunkBytes));
    CHECK(words != nullptr);
    slabs_.push_back(words);
    for (uint64_t i = count; i-- > 0;) {
      chunks_.emplace_back().words = words + i * kChunkWords;
      free_chunks_.push_back(&chunks_.back());
    }
  }
  Chunk* const chunk = free_chunks_.back();
  free_chunks_.pop_back();
  return chunk;
}

Chunk* ChunkPool::NewChunk(uint32_t ones) {
  Chunk* const chunk = TakeChunk();
  chunks_made_.fetch_add(1, std::memory_order_relaxed);
  chunk->ones.store(ones, std::memory_order_relaxed);
  for (uint64_t i = 0; i < kChunkWords; ++i) {
    const uint64_t begin = i * kWordBits;
    const uint64_t left = ones > begin ? std::min<uint64_t>(ones - begin, kWordBits) : 0;
    StoreWord(chunk->words[i], left == 0 ? 0 : Mask(0, left));
  }
  chunk->references.store(1, std::memory_order_release);
  return chunk;
}

Chunk* ChunkPool::CloneChunk(const Chunk& chunk) {
  Chunk* const clone = TakeChunk();
  chunks_cloned_.fetch_add(1, std::memory_order_relaxed);
  clone->ones.store(chunk.ones.load(std::memory_order_relaxed), std::memory_order_relaxed);
  for (uint64_t i = 0; i < kChunkWords; ++i) StoreWord(clone->words[i], LoadWord(chunk.words[i]));
  clone->references.store(1, std::memory_order_release);
  return clone;
}

Chunk* ChunkPool::LentChunk(uint64_t* words, uint32_t ones) {
  MutexLock lock(&mutex_);
  Chunk& chunk = chunks_.emplace_back();
  chunk.words = words;
  chunk.ones = ones;
  chunk.references = 1;
  return &chunk;
}

Node* ChunkPool::NewNode() {
  MutexLock lock(&mutex_);
  Node* node = nullptr;
  if (free_nodes_.empty()) {
    node = &nodes_.emplace_back();
  } else {
    node = free_nodes_.back();
    free_nodes_.pop_back();
  }
  node->references.store(1, std::memory_order_relaxed);
  node->ones = 0;
  for (uint64_t i = 0; i < kNodeChunks; ++i) node->Put(i, nullptr);
  return node;
}

Node* ChunkPool::CloneNode(const Node& node) {
  Node* const clone = NewNode();
  nodes_cloned_.fetch_add(1, std::memory_order_relaxed);
  clone->ones = node.ones;
  for (uint64_t i = 0; i < kNodeChunks; ++i) {
    Chunk* const chunk = node.chunk(i);
    if (IsReal(chunk)) chunk->references.fetch_add(1, std::memory_order_relaxed);
    clone->Put(i, chunk);
  }
  return clone;
}

void ChunkPool::Release(Chunk* chunk) {
  if (chunk->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  bool keep_pages = false;
  {
    MutexLock lock(&mutex_);
    keep_pages = free_chunks_.size() < kFreeChunksWithPagesMax;
  }
  // Readers who still look see zeroes, and then that they looked at the wrong place.
  if (!keep_pages) madvise(chunk->words, kChunkBytes, MADV_DONTNEED);
  MutexLock lock(&mutex_);
  // Those with pages are taken first.
  if (keep_pages) {
    free_chunks_.push_back(chunk);
  } else {
    free_chunks_.push_front(chunk);
  }
}

void ChunkPool::Release(Node* node) {
  if (node->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (uint64_t i = 0; i < kNodeChunks; ++i) {
    if (Chunk* const chunk = node->chunk(i); IsReal(chunk)) Release(chunk);
  }
  MutexLock lock(&mutex_);
  free_nodes_.push_back(node);
}

}  // namespace tidemark::bitmap
