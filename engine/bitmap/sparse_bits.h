// A row of bits that costs memory and time only where ones and zeroes are mixed: a tree of two
// levels whose uniform parts have no words.
//
//     root: a slot for each node ----> node: a slot for each chunk ----> chunk: words
//           (all 0 | all 1 | node)           (all 0 | all 1 | chunk)
//
// Thread rule: all methods are safe from any thread. Looking takes no lock, and Set none where the
// bits are set already; changes of one object come one after the other. A bit that Set made 1, or
// found to be 1, is seen by whatever is called after Set returned; and whoever makes bits 0 sees
// what was done before the Sets that it takes back.
//
// Cost: Set, Clear and Find of a whole uniform stretch are counted in slots, of which there are at
// most 512 a level; Copy in slots of the root.
#ifndef ENGINE_BITMAP_SPARSE_BITS_H_
#define ENGINE_BITMAP_SPARSE_BITS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/base/mutex.h"
#include "engine/bitmap/chunk_pool.h"

namespace tidemark::bitmap {

class SparseBits {
 public:
  // Bits [begin, end).
  struct Stretch {
    uint64_t begin;
    uint64_t end;
  };
  // What stands from a bit on, up to `end`.
  struct Piece {
    enum Kind { kZeroes, kOnes, kMixed } kind;
    uint64_t end;
  };
  // What was done since the memory's first owner was made: for tests, which count it.
  struct Work {
    uint64_t chunks_made = 0;
    uint64_t chunks_cloned = 0;
    uint64_t nodes_cloned = 0;
  };

  // All 0.
  explicit SparseBits(uint64_t bit_count);
  // As they stand in `memory`, which lives longer, has WordsFor(bit_count) words at least, and
  // which nobody else changes: every change is in it at once. Nothing is saved where the bits are
  // uniform. Words past the last bit become 0.
  SparseBits(uint64_t bit_count, absl::Span<uint64_t> memory);
  ~SparseBits();
  SparseBits(const SparseBits&) = delete;
  SparseBits& operator=(const SparseBits&) = delete;

  // The same bits, in memory that is shared until one of the two changes.
  std::unique_ptr<SparseBits> Copy() const;
  // All 0, as many, and able to share memory with this one.
  std::unique_ptr<SparseBits> Empty() const;

  uint64_t bit_count() const { return bit_count_.load(std::memory_order_acquire); }
  // How many there may be: the memory from outside is the limit, if there is such.
  uint64_t bit_count_max() const;
  // Never less than there are, and exact while nobody is in a call.
  uint64_t ones() const { return ones_.load(); }
  Work work() const;
  // Bytes that nobody would need if all bits were 0. What is shared is counted in full.
  uint64_t memory_bytes() const;

  // Where these bits may be others than those of `then`, a Copy of them that nobody has changed
  // since: whole chunks, ascending, as many as have changed. All, if they share no memory.
  std::vector<Stretch> ChangedSince(const SparseBits& then) const;

  // Stretches past the end are cut off.
  void Set(Stretch stretch);
  void Clear(Stretch stretch);
  // Clears the first stretch of ones at or after `from`, at most `length_max` long, and tells it.
  absl::optional<Stretch> TakeOnes(uint64_t from, uint64_t length_max);

  // The first such bit in [from, end); `end` if there is none. `end` is at most bit_count().
  uint64_t FindOne(uint64_t from, uint64_t end) const { return Find(from, end, /*one=*/true); }
  uint64_t FindZero(uint64_t from, uint64_t end) const { return Find(from, end, /*one=*/false); }
  // The word of that index, below WordsFor(bit_count()).
  uint64_t Word(uint64_t index) const;
  // What begins at `from`, the first bit of a chunk below bit_count(). Fills `words`, of a chunk,
  // if it is mixed: past the last bit they are 0.
  Piece Read(uint64_t from, uint64_t* words) const;

  // `words` stand for the bits from `first` on, a multiple of 64, all in one chunk: ORed in, or put
  // in the place of those of `replaced`. What lies past the end is ignored.
  void OrWords(uint64_t first, absl::Span<const uint64_t> words);
  void ReplaceWords(uint64_t first, absl::Span<const uint64_t> words, Stretch replaced);
  // ORs `source`, of as many bits; what only one of them has is left out. Shares what can be.
  void Or(const SparseBits& source);

  // New bits are 0; what is cut off is 0 also when it comes back. At most bit_count_max().
  void Resize(uint64_t bit_count);

 private:
  struct Root {
    uint64_t count = 0;
    std::unique_ptr<std::atomic<Node*>[]> nodes;
  };
  // What stands at a bit, without a look into words.
  struct View {
    const uint64_t* words;  // Of a chunk, null, or OnesWords().
    uint64_t end;
  };

  SparseBits(uint64_t bit_count, std::shared_ptr<ChunkPool> pool);

  View Look(uint64_t bit) const;
  template <typename Look>
  auto Validated(Look look) const;
  uint64_t Find(uint64_t from, uint64_t end, bool one) const;

  // ---- With the lock held ----
  uint64_t NodeBits(uint64_t node_index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t ChunkBits(uint64_t chunk_index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t OnesOf(const Node* node, uint64_t node_index) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t OnesOf(const Chunk* chunk, uint64_t chunk_index) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::atomic<Node*>& NodeSlot(uint64_t node_index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Put(std::atomic<Node*>& slot, Node* node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Put(Node& node, uint64_t chunk_index, Chunk* chunk) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What may be changed in place: made, filled or copied as it takes.
  Node& MutableNode(uint64_t node_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Chunk& MutableChunk(Node& node, uint64_t chunk_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Back to a slot without memory, if it is uniform now.
  void Settle(Node& node, uint64_t chunk_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Settle(uint64_t node_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Add(uint64_t ones) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Subtract(uint64_t ones) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fill(Stretch stretch, bool one) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillInNode(uint64_t node_index, Stretch stretch, bool one)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillInChunk(Chunk& chunk, Node& node, Stretch stretch, bool one)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Makes a word of the chunk what it is to be, with all counts.
  void Change(Node& node, Chunk& chunk, uint64_t& word, uint64_t value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sets bits of one word whose memory is there and shared by nobody; else false.
  bool SetInPlace(uint64_t word_index, uint64_t mask) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChangeWords(uint64_t first, absl::Span<const uint64_t> words, Stretch replaced)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OrNode(uint64_t node_index, Node* node, uint64_t source_bit_count)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A larger root with what the current one has.
  void AddRoot(uint64_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // After bits were made 0, before their owner looks at what they stand for.
  void EndOfClearing();

  // Constant after construction.
  const std::shared_ptr<ChunkPool> pool_;
  const absl::Span<uint64_t> memory_;

  // Read without a lock. A slot for each node.
  std::atomic<std::atomic<Node*>*> root_;
  std::atomic<uint64_t> bit_count_;
  std::atomic<uint64_t> ones_ = 0;
  // Counts whenever a node or chunk has left its slot.
  std::atomic<uint64_t> version_ = 0;

  // Held by whoever changes anything. Never with the lock of other bits.
  mutable Mutex mutex_;
  // The last is the current one. Kept until the end, because readers may still be in an old one;
  // together they are smaller than the current one.
  std::vector<Root> roots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_SPARSE_BITS_H_
