#include "engine/storage/memory_storage.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {

std::shared_ptr<MemoryStorage> MemoryStorage::Of(absl::string_view contents) {
  auto disk = std::make_shared<MemoryStorage>(contents.size());
  const auto* bytes = reinterpret_cast<const std::byte*>(contents.data());
  CHECK(disk->Write(0, ConstBytes(bytes, contents.size()), {}).ok());
  return disk;
}

std::string MemoryStorage::Contents() const { return Contents({0, size_bytes()}); }

std::string MemoryStorage::Contents(Range range) const {
  std::string contents(range.length_bytes, '\0');
  auto* bytes = reinterpret_cast<std::byte*>(contents.data());
  CHECK(const_cast<MemoryStorage*>(this)
            ->Read(range.offset_bytes, Bytes(bytes, contents.size()))
            .ok());
  return contents;
}

std::shared_ptr<MemoryStorage> MemoryStorage::Copy() const {
  MutexLock lock(&mutex_);
  auto copy = std::make_shared<MemoryStorage>(size_bytes_);
  MutexLock copy_lock(&copy->mutex_);
  for (const auto& [number, chunk] : chunks_) {
    Chunk fresh(new std::byte[kChunkBytes]);
    std::memcpy(fresh.get(), chunk.get(), kChunkBytes);
    copy->chunks_.emplace_hint(copy->chunks_.end(), number, std::move(fresh));
  }
  return copy;
}

uint64_t MemoryStorage::size_bytes() const {
  MutexLock lock(&mutex_);
  return size_bytes_;
}

Limits MemoryStorage::limits() const {
  Limits limits;
  limits.can_discard = true;
  limits.can_write_zeroes_fast = true;
  return limits;
}

absl::Status MemoryStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  const Range range{offset_bytes, buffer.size()};
  MutexLock lock(&mutex_);
  if (!range.FitsIn(kFileSizeBytesMax)) return PastEndError("memory", range, size_bytes_);
  for (uint64_t at = offset_bytes; at < range.end_bytes();) {
    const uint64_t within = at % kChunkBytes;
    const uint64_t length = std::min(kChunkBytes - within, range.end_bytes() - at);
    std::byte* to = buffer.data() + (at - offset_bytes);
    const auto found = chunks_.find(at / kChunkBytes);
    if (found == chunks_.end()) {
      std::memset(to, 0, length);
    } else {
      std::memcpy(to, found->second.get() + within, length);
    }
    at += length;
  }
  return absl::OkStatus();
}

absl::Status MemoryStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  if (options.only_unallocated) return HoldsAllError("memory");
  const Range range{offset_bytes, data.size()};
  MutexLock lock(&mutex_);
  if (!range.FitsIn(kFileSizeBytesMax)) return PastEndError("memory", range, size_bytes_);
  for (uint64_t at = offset_bytes; at < range.end_bytes();) {
    const uint64_t within = at % kChunkBytes;
    const uint64_t length = std::min(kChunkBytes - within, range.end_bytes() - at);
    Chunk& chunk = chunks_[at / kChunkBytes];
    if (chunk == nullptr) chunk.reset(new std::byte[kChunkBytes]());
    std::memcpy(chunk.get() + within, data.data() + (at - offset_bytes), length);
    at += length;
  }
  if (!range.empty()) size_bytes_ = std::max(size_bytes_, range.end_bytes());
  return absl::OkStatus();
}

void MemoryStorage::ZeroLocked(Range range) {
  auto it = chunks_.lower_bound(range.offset_bytes / kChunkBytes);
  while (it != chunks_.end() && it->first * kChunkBytes < range.end_bytes()) {
    const Range chunk{it->first * kChunkBytes, kChunkBytes};
    const Range part = chunk.Intersect(range);
    if (part == chunk) {
      it = chunks_.erase(it);
      continue;
    }
    std::memset(it->second.get() + (part.offset_bytes - chunk.offset_bytes), 0, part.length_bytes);
    ++it;
  }
}

absl::Status MemoryStorage::WriteZeroes(Range range, ZeroOptions options) {
  if (options.only_unallocated) return HoldsAllError("memory");
  MutexLock lock(&mutex_);
  if (!range.FitsIn(kFileSizeBytesMax)) return PastEndError("memory", range, size_bytes_);
  ZeroLocked(range);
  if (!range.empty()) size_bytes_ = std::max(size_bytes_, range.end_bytes());
  return absl::OkStatus();
}

absl::Status MemoryStorage::Discard(Range range) {
  MutexLock lock(&mutex_);
  if (!range.FitsIn(size_bytes_)) return PastEndError("memory", range, size_bytes_);
  ZeroLocked(range);
  return absl::OkStatus();
}

absl::Status MemoryStorage::Resize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  if (size_bytes > kFileSizeBytesMax) return PastEndError("memory", {0, size_bytes}, size_bytes_);
  // Bytes beyond the end are always zeroes, so that growing shows zeroes.
  if (size_bytes < size_bytes_) ZeroLocked(Range::FromTo(size_bytes, size_bytes_));
  size_bytes_ = size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<Extent> MemoryStorage::Map(Range range) {
  MutexLock lock(&mutex_);
  if (range.empty() || !range.FitsIn(size_bytes_)) {
    return PastEndError("memory", range, size_bytes_);
  }
  auto it = chunks_.lower_bound(range.offset_bytes / kChunkBytes);
  Extent extent;
  uint64_t end_bytes = range.end_bytes();
  if (it == chunks_.end() || it->first * kChunkBytes > range.offset_bytes) {
    extent.content = Extent::Content::kZero;
    extent.hole = true;
    if (it != chunks_.end()) end_bytes = std::min(end_bytes, it->first * kChunkBytes);
  } else {
    uint64_t number = it->first;
    while (it != chunks_.end() && it->first == number && number * kChunkBytes < end_bytes) {
      ++it;
      ++number;
    }
    end_bytes = std::min(end_bytes, number * kChunkBytes);
  }
  extent.range = Range::FromTo(range.offset_bytes, end_bytes);
  return extent;
}

}  // namespace tidemark::storage
