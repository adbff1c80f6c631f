// Why looking needs no lock. Chunks and nodes stay readable for ever (ChunkPool), but one that has
// left its slot may become part of something else. So whoever looks remembers `version_` before,
// and looks again if it has moved: it moves after a slot was given another node or chunk, and
// before the old one is let go of. Reading a word acquires what its writer released, so a reader
// who saw a word of the chunk's next life sees that the version has moved, too.
//
// The order against what the bits stand for. A guest writes its data, then marks. A copy clears the
// bit, then reads the data. Marking looks first whether the bit is set already; between the data
// and that look there must be a full fence, and between the clearing and the copy's reading too,
// else both could miss each other: the marker sees the old bit, the copier old data. A marker that
// does not find its bit set takes the lock, and needs no fence.
//
// ones_ is an upper bound at every moment (raised before, lowered after), and exact when nobody is
// within a call; so 0 means empty.
//
// Sharing. A node or chunk with more than one reference is not changed by anybody. References are
// added to what a slot leads to only under the lock of the slot's bits, so whoever holds that lock
// and finds a single reference has it for himself.
//
// Bits past the end are 0 in every word. A slot that says "all 1" means: up to the end. So before
// the end moves up, the last slots get words.
#include "engine/bitmap/sparse_bits.h"

#include <algorithm>
#include <bit>

#include "engine/base/check.h"
#include "engine/bitmap/words.h"

namespace tidemark::bitmap {
namespace {

uint64_t NodesFor(uint64_t bit_count) {
  return bit_count / kNodeBits + (bit_count % kNodeBits != 0 ? 1 : 0);
}

uint64_t BitsFrom(uint64_t begin, uint64_t bit_count, uint64_t bits_max) {
  return bit_count > begin ? std::min(bit_count - begin, bits_max) : 0;
}

}  // namespace

// ---- Making ----

SparseBits::SparseBits(uint64_t bit_count, std::shared_ptr<ChunkPool> pool)
    : pool_(std::move(pool)), bit_count_(bit_count) {
  CHECK(bit_count <= kGranuleCountMax);
  MutexLock lock(&mutex_);
  AddRoot(NodesFor(bit_count));
}

SparseBits::SparseBits(uint64_t bit_count) : SparseBits(bit_count, std::make_shared<ChunkPool>()) {}

SparseBits::SparseBits(uint64_t bit_count, absl::Span<uint64_t> memory)
    : pool_(std::make_shared<ChunkPool>()), memory_(memory), bit_count_(bit_count) {
  CHECK(bit_count <= bit_count_max());
  MutexLock lock(&mutex_);
  AddRoot(NodesFor(bit_count_max()));
  for (uint64_t first = 0; first < memory.size(); first += kChunkWords) {
    uint32_t ones = 0;
    for (uint64_t i = first; i < std::min(first + kChunkWords, memory.size()); ++i) {
      const uint64_t bits = BitsFrom(i * kWordBits, bit_count, kWordBits);
      const uint64_t word = bits == 0 ? 0 : memory[i] & Mask(0, bits);
      if (word != memory[i]) StoreWord(memory[i], word);
      ones += std::popcount(word);
    }
    std::atomic<Node*>& slot = NodeSlot(first * kWordBits / kNodeBits);
    if (slot.load() == nullptr) slot = pool_->NewNode();
    Node& node = *slot.load();
    node.Put(first / kChunkWords % kNodeChunks, pool_->LentChunk(&memory[first], ones));
    node.ones += ones;
    Add(ones);
  }
}

SparseBits::~SparseBits() {
  // The pool is nobody else's then, and the memory not its own.
  if (!memory_.empty()) return;
  MutexLock lock(&mutex_);
  const Root& root = roots_.back();
  for (uint64_t i = 0; i < root.count; ++i) {
    if (Node* const node = root.nodes[i].load(); IsReal(node)) pool_->Release(node);
  }
}

void SparseBits::AddRoot(uint64_t count) {
  Root root{std::max<uint64_t>(count, 1), nullptr};
  root.nodes.reset(new std::atomic<Node*>[root.count]());
  if (!roots_.empty()) {
    for (uint64_t i = 0; i < roots_.back().count; ++i) {
      root.nodes[i] = roots_.back().nodes[i].load();
    }
  }
  root_.store(root.nodes.get(), std::memory_order_release);
  roots_.push_back(std::move(root));
}

std::unique_ptr<SparseBits> SparseBits::Copy() const {
  std::unique_ptr<SparseBits> copy = Empty();
  if (!memory_.empty()) {
    copy->Or(*this);
    return copy;
  }
  MutexLock lock(&mutex_);
  // Nobody has seen the copy yet. Empty may have been asked before this grew.
  MutexLock copy_lock(&copy->mutex_);
  const Root& root = roots_.back();
  if (copy->roots_.back().count < root.count) copy->AddRoot(root.count);
  copy->bit_count_ = bit_count_.load();
  copy->ones_ = ones_.load();
  for (uint64_t i = 0; i < root.count; ++i) {
    Node* const node = root.nodes[i].load();
    if (IsReal(node)) node->references.fetch_add(1, std::memory_order_relaxed);
    copy->NodeSlot(i) = node;
  }
  return copy;
}

std::unique_ptr<SparseBits> SparseBits::Empty() const {
  // Not make_unique: the constructor is private.
  return std::unique_ptr<SparseBits>(
      new SparseBits(bit_count(), memory_.empty() ? pool_ : std::make_shared<ChunkPool>()));
}

// ---- Looking ----

uint64_t SparseBits::bit_count_max() const {
  return memory_.empty() ? kGranuleCountMax
                         : std::min<uint64_t>(memory_.size() * kWordBits, kGranuleCountMax);
}

SparseBits::Work SparseBits::work() const {
  return {.chunks_made = pool_->chunks_made(),
          .chunks_cloned = pool_->chunks_cloned(),
          .nodes_cloned = pool_->nodes_cloned()};
}

uint64_t SparseBits::memory_bytes() const {
  MutexLock lock(&mutex_);
  const Root& root = roots_.back();
  uint64_t bytes = root.count * sizeof(root.nodes[0]);
  for (uint64_t i = 0; i < root.count; ++i) {
    const Node* const node = root.nodes[i].load();
    if (!IsReal(node)) continue;
    bytes += sizeof(Node);
    for (uint64_t k = 0; k < kNodeChunks; ++k) {
      if (IsReal(node->chunk(k))) bytes += sizeof(Chunk) + kChunkBytes;
    }
  }
  return bytes;
}

SparseBits::View SparseBits::Look(uint64_t bit) const {
  const std::atomic<Node*>* const root = root_.load(std::memory_order_acquire);
  const Node* const node = root[bit / kNodeBits].load(std::memory_order_acquire);
  if (!IsReal(node)) {
    return {node == nullptr ? nullptr : OnesWords(), (bit / kNodeBits + 1) * kNodeBits};
  }
  const uint64_t* const words =
      node->words[bit / kChunkBits % kNodeChunks].load(std::memory_order_acquire);
  return {words, (bit / kChunkBits + 1) * kChunkBits};
}

// `look` again and again until what it looked at stayed in its place.
template <typename Looking>
auto SparseBits::Validated(Looking look) const {
  for (;;) {
    const uint64_t version = version_.load(std::memory_order_acquire);
    const auto seen = look();
    if (version_.load(std::memory_order_acquire) == version) return seen;
  }
}

uint64_t SparseBits::Find(uint64_t from, uint64_t end, bool one) const {
  struct Found {
    uint64_t at;
    bool here;
  };
  while (from < end) {
    const Found found = Validated([&]() -> Found {
      const View view = Look(from);
      const uint64_t stop = std::min(end, view.end);
      if (!IsReal(view.words)) {
        return (view.words != nullptr) == one ? Found{from, true} : Found{stop, false};
      }
      const uint64_t base = from / kChunkBits * kChunkBits;
      const uint64_t at =
          base + FindInWords(view.words, from - base, stop - base, one ? 0 : ~uint64_t{0});
      return {at, at < stop};
    });
    if (found.here) return found.at;
    from = found.at;
  }
  return end;
}

uint64_t SparseBits::Word(uint64_t index) const {
  const uint64_t bits = BitsFrom(index * kWordBits, bit_count(), kWordBits);
  if (bits == 0) return 0;
  return Mask(0, bits) & Validated([&]() -> uint64_t {
           const View view = Look(index * kWordBits);
           if (!IsReal(view.words)) return view.words != nullptr ? ~uint64_t{0} : 0;
           return LoadWord(view.words[index % kChunkWords]);
         });
}

SparseBits::Piece SparseBits::Read(uint64_t from, uint64_t* words) const {
  const uint64_t count = bit_count();
  return Validated([&]() -> Piece {
    const View view = Look(from);
    const uint64_t end = std::min(view.end, count);
    if (!IsReal(view.words)) {
      return {view.words != nullptr ? Piece::kOnes : Piece::kZeroes, end};
    }
    const uint64_t used = WordsFor(BitsFrom(from, end, kChunkBits));
    for (uint64_t i = 0; i < used; ++i) words[i] = LoadWord(view.words[i]);
    std::fill(words + used, words + kChunkWords, 0);
    return {Piece::kMixed, end};
  });
}

std::vector<SparseBits::Stretch> SparseBits::ChangedSince(const SparseBits& then) const {
  MutexLock lock(&mutex_);
  const uint64_t count = bit_count_.load(std::memory_order_relaxed);
  if (pool_ != then.pool_ || !memory_.empty() || count != then.bit_count()) return {{0, count}};
  std::vector<Stretch> changed;
  const auto add = [&changed, count](uint64_t begin, uint64_t length) {
    const uint64_t end = std::min(begin + length, count);
    if (!changed.empty() && changed.back().end == begin) {
      changed.back().end = end;
    } else if (begin < end) {
      changed.push_back({begin, end});
    }
  };
  const std::atomic<Node*>* const then_root = then.root_.load(std::memory_order_acquire);
  for (uint64_t i = 0; i * kNodeBits < count; ++i) {
    // What both refer to is changed by neither.
    const Node* const node = NodeSlot(i).load();
    const Node* const node_then = then_root[i].load(std::memory_order_acquire);
    if (node == node_then) continue;
    if (!IsReal(node) || !IsReal(node_then)) {
      add(i * kNodeBits, kNodeBits);
      continue;
    }
    for (uint64_t k = 0; k < kNodeChunks; ++k) {
      if (node->chunk(k) != node_then->chunk(k)) add(i * kNodeBits + k * kChunkBits, kChunkBits);
    }
  }
  return changed;
}

// ---- Changing ----

void SparseBits::Set(Stretch stretch) {
  stretch.end = std::min(stretch.end, bit_count());
  if (stretch.begin >= stretch.end) return;
  const uint64_t index = stretch.begin / kWordBits;
  const bool is_one_word = (stretch.end - 1) / kWordBits == index;
  const uint64_t mask =
      is_one_word ? Mask(stretch.begin % kWordBits, stretch.end - index * kWordBits) : 0;
#ifndef __SANITIZE_THREAD__  // It knows no fences: every Set takes the lock then.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (is_one_word ? (mask & ~Word(index)) == 0
                  : FindZero(stretch.begin, stretch.end) == stretch.end) {
    return;
  }
#endif
  MutexLock lock(&mutex_);
  // The usual write of a guest: it is within one word, and of its place not the first.
  if (is_one_word && stretch.end <= bit_count() && SetInPlace(index, mask)) return;
  Fill(stretch, /*one=*/true);
}

void SparseBits::Clear(Stretch stretch) {
  {
    MutexLock lock(&mutex_);
    stretch.end = std::min(stretch.end, bit_count());
    const uint64_t first = FindOne(stretch.begin, stretch.end);
    if (first < stretch.end) Fill({first, stretch.end}, /*one=*/false);
  }
  EndOfClearing();
}

absl::optional<SparseBits::Stretch> SparseBits::TakeOnes(uint64_t from, uint64_t length_max) {
  Stretch taken;
  {
    MutexLock lock(&mutex_);
    const uint64_t count = bit_count();
    taken.begin = FindOne(from, count);
    if (taken.begin >= count) return absl::nullopt;
    taken.end = FindZero(taken.begin, taken.begin + std::min(length_max, count - taken.begin));
    Fill(taken, /*one=*/false);
  }
  EndOfClearing();
  return taken;
}

void SparseBits::EndOfClearing() {
#ifndef __SANITIZE_THREAD__
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

void SparseBits::Resize(uint64_t bit_count) {
  CHECK(bit_count <= bit_count_max());
  MutexLock lock(&mutex_);
  const uint64_t before = bit_count_.load();
  if (bit_count <= before) {
    Fill({bit_count, before}, /*one=*/false);
    bit_count_.store(bit_count, std::memory_order_release);
    return;
  }
  if (before % kNodeBits != 0 && NodeSlot(before / kNodeBits).load() != nullptr) {
    Node& node = MutableNode(before / kNodeBits);
    const uint64_t chunk_index = before / kChunkBits;
    if (before % kChunkBits != 0 && node.chunk(chunk_index % kNodeChunks) != nullptr) {
      MutableChunk(node, chunk_index);
    }
  }
  const uint64_t nodes_before = roots_.back().count;
  if (NodesFor(bit_count) > nodes_before) {
    AddRoot(std::max(NodesFor(bit_count), 2 * nodes_before));
  }
  bit_count_.store(bit_count, std::memory_order_release);
}

}  // namespace tidemark::bitmap
