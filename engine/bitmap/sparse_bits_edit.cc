// How SparseBits are changed: everything here happens with their lock held.
#include <algorithm>
#include <bit>

#include "engine/bitmap/sparse_bits.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {

// ---- Slots ----

uint64_t SparseBits::NodeBits(uint64_t node_index) const {
  const uint64_t begin = node_index * kNodeBits;
  const uint64_t count = bit_count_.load(std::memory_order_relaxed);
  return count > begin ? std::min(count - begin, kNodeBits) : 0;
}

uint64_t SparseBits::ChunkBits(uint64_t chunk_index) const {
  const uint64_t begin = chunk_index * kChunkBits;
  const uint64_t count = bit_count_.load(std::memory_order_relaxed);
  return count > begin ? std::min(count - begin, kChunkBits) : 0;
}

uint64_t SparseBits::OnesOf(const Node* node, uint64_t node_index) const {
  if (node == OnesNode()) return NodeBits(node_index);
  return node == nullptr ? 0 : node->ones;
}

uint64_t SparseBits::OnesOf(const Chunk* chunk, uint64_t chunk_index) const {
  if (chunk == OnesChunk()) return ChunkBits(chunk_index);
  return chunk == nullptr ? 0 : chunk->ones.load(std::memory_order_relaxed);
}

std::atomic<Node*>& SparseBits::NodeSlot(uint64_t node_index) const {
  return root_.load(std::memory_order_relaxed)[node_index];
}

void SparseBits::Put(std::atomic<Node*>& slot, Node* node) {
  Node* const before = slot.load(std::memory_order_relaxed);
  slot.store(node, std::memory_order_release);
  if (!IsReal(before)) return;
  version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  pool_->Release(before);
}

void SparseBits::Put(Node& node, uint64_t chunk_index, Chunk* chunk) {
  Chunk* const before = node.chunk(chunk_index % kNodeChunks);
  node.Put(chunk_index % kNodeChunks, chunk);
  if (!IsReal(before)) return;
  version_.store(version_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  pool_->Release(before);
}

Node& SparseBits::MutableNode(uint64_t node_index) {
  std::atomic<Node*>& slot = NodeSlot(node_index);
  Node* const node = slot.load(std::memory_order_relaxed);
  // The last other holder may just have let go: what it read comes before what is written now.
  if (IsReal(node) && node->references.load(std::memory_order_acquire) == 1) return *node;
  Node* own = nullptr;
  if (IsReal(node)) {
    own = pool_->CloneNode(*node);
  } else {
    own = pool_->NewNode();
    if (node == OnesNode()) {
      own->ones = NodeBits(node_index);
      for (uint64_t i = 0; i * kChunkBits < own->ones; ++i) {
        own->Put(i, OnesChunk());
      }
    }
  }
  Put(slot, own);
  return *own;
}

Chunk& SparseBits::MutableChunk(Node& node, uint64_t chunk_index) {
  Chunk* const chunk = node.chunk(chunk_index % kNodeChunks);
  if (IsReal(chunk) && chunk->references.load(std::memory_order_acquire) == 1) return *chunk;
  Chunk* const own = IsReal(chunk)
                         ? pool_->CloneChunk(*chunk)
                         : pool_->NewChunk(static_cast<uint32_t>(OnesOf(chunk, chunk_index)));
  Put(node, chunk_index, own);
  return *own;
}

void SparseBits::Settle(Node& node, uint64_t chunk_index) {
  const Chunk* const chunk = node.chunk(chunk_index % kNodeChunks);
  if (!IsReal(chunk) || !memory_.empty()) return;
  const uint64_t ones = chunk->ones.load(std::memory_order_relaxed);
  if (ones == 0) {
    Put(node, chunk_index, nullptr);
  } else if (ones == ChunkBits(chunk_index)) {
    Put(node, chunk_index, OnesChunk());
  }
}

void SparseBits::Settle(uint64_t node_index) {
  std::atomic<Node*>& slot = NodeSlot(node_index);
  const Node* const node = slot.load(std::memory_order_relaxed);
  if (!IsReal(node) || !memory_.empty()) return;
  if (node->ones == 0) {
    Put(slot, nullptr);
  } else if (node->ones == NodeBits(node_index)) {
    Put(slot, OnesNode());
  }
}

void SparseBits::Add(uint64_t ones) {
  // The bits are stored later, and released: who sees them sees this.
  ones_.store(ones_.load(std::memory_order_relaxed) + ones, std::memory_order_release);
}

void SparseBits::Subtract(uint64_t ones) {
  ones_.store(ones_.load(std::memory_order_relaxed) - ones, std::memory_order_release);
}

// ---- Stretches ----

void SparseBits::Fill(Stretch stretch, bool one) {
  stretch.end = std::min(stretch.end, bit_count_.load(std::memory_order_relaxed));
  while (stretch.begin < stretch.end) {
    const uint64_t node_index = stretch.begin / kNodeBits;
    const uint64_t end = std::min(stretch.end, node_index * kNodeBits + NodeBits(node_index));
    FillInNode(node_index, {stretch.begin, end}, one);
    stretch.begin = end;
  }
}

void SparseBits::FillInNode(uint64_t node_index, Stretch stretch, bool one) {
  std::atomic<Node*>& node_slot = NodeSlot(node_index);
  Node* const before = node_slot.load(std::memory_order_relaxed);
  if (before == (one ? OnesNode() : nullptr)) return;
  const bool may_lack_words = memory_.empty();
  if (may_lack_words && stretch.end - stretch.begin == NodeBits(node_index)) {
    const uint64_t ones_before = OnesOf(before, node_index);
    if (one) Add(NodeBits(node_index) - ones_before);
    Put(node_slot, one ? OnesNode() : nullptr);
    if (!one) Subtract(ones_before);
    return;
  }
  Node& node = MutableNode(node_index);
  while (stretch.begin < stretch.end) {
    const uint64_t chunk_index = stretch.begin / kChunkBits;
    const uint64_t base = chunk_index * kChunkBits;
    const Stretch part = {stretch.begin, std::min(stretch.end, base + ChunkBits(chunk_index))};
    stretch.begin = part.end;
    Chunk* const chunk = node.chunk(chunk_index % kNodeChunks);
    if (chunk == (one ? OnesChunk() : nullptr)) continue;
    if (may_lack_words && part.end - part.begin == ChunkBits(chunk_index)) {
      const uint64_t ones_before = OnesOf(chunk, chunk_index);
      const uint64_t ones_after = one ? ChunkBits(chunk_index) : 0;
      if (one) Add(ones_after - ones_before);
      node.ones += ones_after - ones_before;
      Put(node, chunk_index, one ? OnesChunk() : nullptr);
      if (!one) Subtract(ones_before);
      continue;
    }
    // What is shared is not copied for nothing.
    if (IsReal(chunk) && FindInWords(chunk->words, part.begin - base, part.end - base,
                                     one ? ~uint64_t{0} : 0) == part.end - base) {
      continue;
    }
    FillInChunk(MutableChunk(node, chunk_index), node, {part.begin - base, part.end - base}, one);
    Settle(node, chunk_index);
  }
  Settle(node_index);
}

void SparseBits::FillInChunk(Chunk& chunk, Node& node, Stretch stretch, bool one) {
  ForEachWord(stretch.begin, stretch.end, [&](uint64_t index, uint64_t mask) {
    uint64_t& word = chunk.words[index];
    Change(node, chunk, word, one ? word | mask : word & ~mask);
  });
}

void SparseBits::Change(Node& node, Chunk& chunk, uint64_t& word, uint64_t value) {
  const uint32_t added = std::popcount(value & ~word);
  const uint32_t removed = std::popcount(word & ~value);
  if (added != 0) {
    Add(added);
    chunk.ones.store(chunk.ones.load(std::memory_order_relaxed) + added, std::memory_order_release);
  }
  if (added != 0 || removed != 0) StoreWord(word, value);
  if (removed != 0) {
    chunk.ones.store(chunk.ones.load(std::memory_order_relaxed) - removed,
                     std::memory_order_release);
    Subtract(removed);
  }
  node.ones += added;
  node.ones -= removed;
}

// ---- Words ----

bool SparseBits::SetInPlace(uint64_t word_index, uint64_t mask) {
  const uint64_t bit = word_index * kWordBits;
  if (bit >= bit_count_.load(std::memory_order_relaxed)) return false;
  Node* const node = NodeSlot(bit / kNodeBits).load(std::memory_order_relaxed);
  if (!IsReal(node) || node->references.load(std::memory_order_acquire) != 1) return false;
  const uint64_t chunk_index = bit / kChunkBits;
  Chunk* const chunk = node->chunk(chunk_index % kNodeChunks);
  if (!IsReal(chunk) || chunk->references.load(std::memory_order_acquire) != 1) return false;
  uint64_t& word = chunk->words[word_index % kChunkWords];
  Change(*node, *chunk, word, word | mask);
  if (chunk->ones.load(std::memory_order_relaxed) == ChunkBits(chunk_index)) {
    Settle(*node, chunk_index);
    Settle(bit / kNodeBits);
  }
  return true;
}

void SparseBits::ChangeWords(uint64_t first, absl::Span<const uint64_t> words, Stretch replaced) {
  const uint64_t count = bit_count_.load(std::memory_order_relaxed);
  if (first >= count) return;
  words = words.subspan(0, std::min<uint64_t>(words.size(), WordsFor(count - first)));
  // What word `i` becomes.
  const auto wanted = [&](uint64_t i) {
    const uint64_t begin = first + i * kWordBits;
    const uint64_t value = words[i] & Mask(0, std::min(count - begin, kWordBits));
    const uint64_t from = std::max(replaced.begin, begin);
    const uint64_t to = std::min(replaced.end, begin + kWordBits);
    const uint64_t dropped = from < to ? Mask(from - begin, to - begin) : 0;
    return value | (Word(begin / kWordBits) & ~dropped);
  };
  uint64_t i = 0;
  while (i < words.size() && wanted(i) == Word(first / kWordBits + i)) ++i;
  if (i == words.size()) return;
  const uint64_t chunk_index = first / kChunkBits;
  Node& node = MutableNode(first / kNodeBits);
  Chunk& chunk = MutableChunk(node, chunk_index);
  for (; i < words.size(); ++i) {
    Change(node, chunk, chunk.words[first / kWordBits % kChunkWords + i], wanted(i));
  }
  Settle(node, chunk_index);
  Settle(first / kNodeBits);
}

void SparseBits::OrWords(uint64_t first, absl::Span<const uint64_t> words) {
  MutexLock lock(&mutex_);
  ChangeWords(first, words, /*replaced=*/{0, 0});
}

void SparseBits::ReplaceWords(uint64_t first, absl::Span<const uint64_t> words, Stretch replaced) {
  {
    MutexLock lock(&mutex_);
    ChangeWords(first, words, replaced);
  }
  EndOfClearing();
}

// ---- The bits of another ----

void SparseBits::Or(const SparseBits& source) {
  if (&source == this) return;
  const uint64_t end = std::min(bit_count(), source.bit_count());
  if (source.pool_ != pool_ || !memory_.empty()) {
    uint64_t words[kChunkWords];
    for (uint64_t at = 0; at < end;) {
      const Piece piece = source.Read(at, words);
      if (piece.kind == Piece::kOnes) Set({at, piece.end});
      if (piece.kind == Piece::kMixed) OrWords(at, words);
      if (piece.end <= at) break;  // It shrinks meanwhile.
      at = piece.end;
    }
    return;
  }
  for (uint64_t node_index = 0; node_index * kNodeBits < end; ++node_index) {
    Node* node = nullptr;
    uint64_t source_bit_count = 0;
    {
      MutexLock lock(&source.mutex_);
      source_bit_count = source.bit_count();
      node = source.NodeSlot(node_index).load(std::memory_order_relaxed);
      // Held, it does not change.
      if (IsReal(node)) node->references.fetch_add(1, std::memory_order_relaxed);
    }
    {
      MutexLock lock(&mutex_);
      OrNode(node_index, node, source_bit_count);
    }
    if (IsReal(node)) pool_->Release(node);
  }
}

void SparseBits::OrNode(uint64_t node_index, Node* node, uint64_t source_bit_count) {
  const uint64_t begin = node_index * kNodeBits;
  const bool equally_long = source_bit_count == bit_count();
  const uint64_t end = std::min(source_bit_count, bit_count());
  if (node == nullptr || begin >= end) return;
  if (node == OnesNode()) return Fill({begin, std::min(begin + kNodeBits, end)}, /*one=*/true);
  std::atomic<Node*>& slot = NodeSlot(node_index);
  if (slot.load() == node) return;
  if (slot.load() == nullptr && equally_long) {
    node->references.fetch_add(1, std::memory_order_relaxed);
    Add(node->ones);
    Put(slot, node);
    return;
  }
  for (uint64_t i = 0; i < kNodeChunks; ++i) {
    const uint64_t chunk_begin = begin + i * kChunkBits;
    Chunk* const chunk = node->chunk(i);
    if (chunk == nullptr || chunk_begin >= end) continue;
    if (chunk == OnesChunk()) {
      Fill({chunk_begin, std::min(chunk_begin + kChunkBits, end)}, /*one=*/true);
      continue;
    }
    Node* const own_node = slot.load();
    if (own_node == OnesNode()) return;
    Chunk* const own = own_node == nullptr ? nullptr : own_node->chunk(i);
    if (own == chunk || own == OnesChunk()) continue;
    if (own != nullptr || !equally_long) {
      ChangeWords(chunk_begin, absl::MakeConstSpan(chunk->words, kChunkWords), /*replaced=*/{0, 0});
      continue;
    }
    Node& changed = MutableNode(node_index);
    chunk->references.fetch_add(1, std::memory_order_relaxed);
    const uint64_t ones = chunk->ones.load(std::memory_order_relaxed);
    Add(ones);
    changed.ones += ones;
    Put(changed, i, chunk);
  }
  Settle(node_index);
}

}  // namespace tidemark::bitmap
