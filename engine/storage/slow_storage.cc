#include "engine/storage/slow_storage.h"

#include "engine/base/check.h"

namespace tidemark::storage {

SlowStorage::~SlowStorage() { CHECK(held_count() == 0); }

void SlowStorage::Hold(absl::optional<Verb> verb) {
  MutexLock lock(&mutex_);
  holding_ = true;
  verb_ = verb;
}

void SlowStorage::LetGo(int count) {
  MutexLock lock(&mutex_);
  let_go_end_ += count;
  changed_.SignalAll();
}

void SlowStorage::Release() {
  MutexLock lock(&mutex_);
  holding_ = false;
  // Tickets given out so far may go; a later Hold begins with new ones.
  let_go_end_ = next_ticket_;
  changed_.SignalAll();
}

void SlowStorage::AwaitHeld(int count) {
  MutexLock lock(&mutex_);
  while (held_count_ < count) changed_.Wait(&mutex_);
}

int SlowStorage::held_count() const {
  MutexLock lock(&mutex_);
  return held_count_;
}

void SlowStorage::Pass(Verb verb) {
  MutexLock lock(&mutex_);
  if (!holding_ || (verb_.has_value() && *verb_ != verb)) return;
  const uint64_t ticket = next_ticket_++;
  ++held_count_;
  changed_.SignalAll();
  while (ticket >= let_go_end_) changed_.Wait(&mutex_);
  --held_count_;
}

absl::Status SlowStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  Pass(Verb::kRead);
  return next().Read(offset_bytes, buffer);
}

absl::Status SlowStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  Pass(Verb::kWrite);
  return next().Write(offset_bytes, data, options);
}

absl::Status SlowStorage::WriteZeroes(Range range, ZeroOptions options) {
  Pass(Verb::kWriteZeroes);
  return next().WriteZeroes(range, options);
}

absl::Status SlowStorage::Discard(Range range) {
  Pass(Verb::kDiscard);
  return next().Discard(range);
}

absl::Status SlowStorage::Flush() {
  Pass(Verb::kFlush);
  return next().Flush();
}

absl::Status SlowStorage::Resize(uint64_t size_bytes) {
  Pass(Verb::kResize);
  return next().Resize(size_bytes);
}

absl::StatusOr<Extent> SlowStorage::Map(Range range) {
  Pass(Verb::kMap);
  return next().Map(range);
}

absl::StatusOr<std::unique_ptr<Placement>> SlowStorage::PlaceRead(Range range) {
  Pass(Verb::kPlaceRead);
  return WatchPlacement(next().PlaceRead(range), this);
}

absl::StatusOr<std::unique_ptr<Placement>> SlowStorage::PlaceWrite(Range range) {
  Pass(Verb::kPlaceWrite);
  return WatchPlacement(next().PlaceWrite(range), this);
}

absl::Status SlowStorage::PlacedRead(Range, Bytes, absl::FunctionRef<absl::Status()> move) {
  Pass(Verb::kRead);
  return move();
}

absl::Status SlowStorage::PlacedWrite(Range, ConstBytes, absl::FunctionRef<absl::Status()> move) {
  Pass(Verb::kWrite);
  return move();
}

}  // namespace tidemark::storage
