#include "engine/storage/crashing_storage.h"

#include <algorithm>
#include <random>

#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kSectorBytes = 512;

ConstBytes AsBytes(absl::string_view text) {
  return ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

}  // namespace

void CrashingStorage::Apply(const Change& change, Range part, MemoryStorage& disk) {
  switch (change.kind) {
    case Change::Kind::kResize:
      CHECK(disk.Resize(change.range.length_bytes).ok());
      break;
    case Change::Kind::kZero:
      CHECK(disk.WriteZeroes(part, {}).ok());
      break;
    case Change::Kind::kWrite: {
      const absl::string_view data =
          absl::string_view(change.data)
              .substr(part.offset_bytes - change.range.offset_bytes, part.length_bytes);
      CHECK(disk.Write(part.offset_bytes, AsBytes(data), {}).ok());
      break;
    }
  }
}

CrashingStorage::CrashingStorage(const MemoryStorage& initial)
    : current_(initial.Copy()), durable_(initial.Copy()) {}

std::shared_ptr<MemoryStorage> CrashingStorage::Crash(uint64_t seed) const {
  std::mt19937_64 random(seed);
  MutexLock lock(&mutex_);
  std::shared_ptr<MemoryStorage> disk = durable_->Copy();
  for (const Change& change : unsynced_) {
    // A quarter is lost, a quarter torn (but a size is one number), a half arrives whole.
    const uint64_t fate = random() % 4;
    if (fate == 0) continue;
    if (fate > 1 || change.kind == Change::Kind::kResize) {
      Apply(change, change.range, *disk);
      continue;
    }
    const Range range = change.range;
    for (uint64_t at = range.offset_bytes; at < range.end_bytes();) {
      const uint64_t sector_end_bytes = at / kSectorBytes * kSectorBytes + kSectorBytes;
      const Range part = Range::FromTo(at, std::min(sector_end_bytes, range.end_bytes()));
      if (random() % 2 == 0) Apply(change, part, *disk);
      at = part.end_bytes();
    }
  }
  return disk;
}

std::shared_ptr<MemoryStorage> CrashingStorage::CrashLosingAll() const {
  MutexLock lock(&mutex_);
  return durable_->Copy();
}

std::shared_ptr<MemoryStorage> CrashingStorage::CrashLosingNothing() const {
  MutexLock lock(&mutex_);
  return current_->Copy();
}

int CrashingStorage::change_count() const {
  MutexLock lock(&mutex_);
  return change_count_;
}

void CrashingStorage::set_fail_from(int count) {
  MutexLock lock(&mutex_);
  fail_from_ = count;
}

absl::Status CrashingStorage::Count() {
  if (fail_from_ >= 0 && change_count_ >= fail_from_) {
    return Error(Reason::kIoError, "the power of the disk has failed");
  }
  ++change_count_;
  return absl::OkStatus();
}

absl::Status CrashingStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  return current_->Read(offset_bytes, buffer);
}

absl::Status CrashingStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Count());
  RETURN_IF_ERROR(current_->Write(offset_bytes, data, options));
  unsynced_.push_back({Change::Kind::kWrite,
                       {offset_bytes, data.size()},
                       std::string(reinterpret_cast<const char*>(data.data()), data.size())});
  return absl::OkStatus();
}

absl::Status CrashingStorage::WriteZeroes(Range range, ZeroOptions options) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Count());
  RETURN_IF_ERROR(current_->WriteZeroes(range, options));
  unsynced_.push_back({Change::Kind::kZero, range, {}});
  return absl::OkStatus();
}

absl::Status CrashingStorage::Discard(Range range) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Count());
  RETURN_IF_ERROR(current_->Discard(range));
  unsynced_.push_back({Change::Kind::kZero, range, {}});
  return absl::OkStatus();
}

absl::Status CrashingStorage::Flush() {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Count());
  for (const Change& change : unsynced_) Apply(change, change.range, *durable_);
  unsynced_.clear();
  return absl::OkStatus();
}

absl::Status CrashingStorage::Resize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(Count());
  RETURN_IF_ERROR(current_->Resize(size_bytes));
  unsynced_.push_back({Change::Kind::kResize, {0, size_bytes}, {}});
  return absl::OkStatus();
}

}  // namespace tidemark::storage
