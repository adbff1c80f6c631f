#include "engine/storage/failing_storage.h"

namespace tidemark::storage {

void FailingStorage::AddRule(FailureRule rule) {
  MutexLock lock(&mutex_);
  rules_.push_back(std::move(rule));
}

void FailingStorage::ClearRules() {
  MutexLock lock(&mutex_);
  rules_.clear();
}

int FailingStorage::failure_count() const {
  MutexLock lock(&mutex_);
  return failure_count_;
}

void FailingStorage::set_refuse_placements(bool refuse) {
  MutexLock lock(&mutex_);
  refuse_placements_ = refuse;
}

bool FailingStorage::refuses_placements() const {
  MutexLock lock(&mutex_);
  return refuse_placements_;
}

absl::Status FailingStorage::Judge(Verb verb, absl::optional<Range> range) {
  MutexLock lock(&mutex_);
  for (FailureRule& rule : rules_) {
    if (rule.verb.has_value() && *rule.verb != verb) continue;
    if (rule.range.has_value() && (!range.has_value() || !rule.range->Overlaps(*range))) continue;
    if (rule.fail_count == 0) continue;
    if (rule.pass_count > 0) {
      --rule.pass_count;
      continue;
    }
    if (rule.fail_count > 0) --rule.fail_count;
    if (!rule.status.ok()) ++failure_count_;
    return rule.status;
  }
  return absl::OkStatus();
}

absl::Status FailingStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  const absl::Status status = Judge(Verb::kRead, Range{offset_bytes, buffer.size()});
  return status.ok() ? next().Read(offset_bytes, buffer) : status;
}

absl::Status FailingStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  const absl::Status status = Judge(Verb::kWrite, Range{offset_bytes, data.size()});
  return status.ok() ? next().Write(offset_bytes, data, options) : status;
}

absl::Status FailingStorage::WriteZeroes(Range range, ZeroOptions options) {
  const absl::Status status = Judge(Verb::kWriteZeroes, range);
  return status.ok() ? next().WriteZeroes(range, options) : status;
}

absl::Status FailingStorage::Discard(Range range) {
  const absl::Status status = Judge(Verb::kDiscard, range);
  return status.ok() ? next().Discard(range) : status;
}

absl::Status FailingStorage::Flush() {
  const absl::Status status = Judge(Verb::kFlush, absl::nullopt);
  return status.ok() ? next().Flush() : status;
}

absl::Status FailingStorage::Resize(uint64_t size_bytes) {
  const absl::Status status = Judge(Verb::kResize, absl::nullopt);
  return status.ok() ? next().Resize(size_bytes) : status;
}

absl::StatusOr<Extent> FailingStorage::Map(Range range) {
  const absl::Status status = Judge(Verb::kMap, range);
  if (!status.ok()) return status;
  return next().Map(range);
}

absl::StatusOr<std::unique_ptr<Placement>> FailingStorage::PlaceRead(Range range) {
  const absl::Status status = Judge(Verb::kPlaceRead, range);
  if (!status.ok()) return status;
  if (refuses_placements()) return nullptr;
  return WatchPlacement(next().PlaceRead(range), this);
}

absl::StatusOr<std::unique_ptr<Placement>> FailingStorage::PlaceWrite(Range range) {
  const absl::Status status = Judge(Verb::kPlaceWrite, range);
  if (!status.ok()) return status;
  if (refuses_placements()) return nullptr;
  return WatchPlacement(next().PlaceWrite(range), this);
}

absl::Status FailingStorage::PlacedRead(Range range, Bytes,
                                        absl::FunctionRef<absl::Status()> move) {
  const absl::Status status = Judge(Verb::kRead, range);
  return status.ok() ? move() : status;
}

absl::Status FailingStorage::PlacedWrite(Range range, ConstBytes,
                                         absl::FunctionRef<absl::Status()> move) {
  const absl::Status status = Judge(Verb::kWrite, range);
  return status.ok() ? move() : status;
}

}  // namespace tidemark::storage
