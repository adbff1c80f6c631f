// A storage whose requests stand still until they are let go: a slow disk with no clock in it, so
// tests decide every interleaving. Safe from any thread.
#ifndef ENGINE_STORAGE_SLOW_STORAGE_H_
#define ENGINE_STORAGE_SLOW_STORAGE_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/storage/storage.h"
#include "engine/storage/verb.h"
#include "engine/storage/watched_placement.h"

namespace tidemark::storage {

// Placements are handed on; what is moved by them is held as any other read or write.
class SlowStorage final : public ForwardingStorage, private PlacementWatch {
 public:
  explicit SlowStorage(std::shared_ptr<Storage> next) : ForwardingStorage(std::move(next)) {}
  // CHECKs that nobody is held.
  ~SlowStorage() override;

  // From now on every request of `verb` (absent: of any) waits before it reaches the storage
  // beneath.
  void Hold(absl::optional<Verb> verb = absl::nullopt);
  // Lets the `count` requests go that have waited longest, now or when they come. Later ones wait
  // still.
  void LetGo(int count = 1);
  // Lets all go and holds no more.
  void Release();

  // Waits until at least `count` requests stand held.
  void AwaitHeld(int count);
  int held_count() const;

  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override;
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override;

 private:
  absl::Status PlacedRead(Range range, Bytes buffer,
                          absl::FunctionRef<absl::Status()> move) override;
  absl::Status PlacedWrite(Range range, ConstBytes data,
                           absl::FunctionRef<absl::Status()> move) override;
  void Pass(Verb verb);

  mutable Mutex mutex_;
  CondVar changed_;
  bool holding_ ABSL_GUARDED_BY(mutex_) = false;
  absl::optional<Verb> verb_ ABSL_GUARDED_BY(mutex_);
  // Tickets are numbered as requests arrive; those below `let_go_end_` may go.
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t let_go_end_ ABSL_GUARDED_BY(mutex_) = 0;
  int held_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_SLOW_STORAGE_H_
