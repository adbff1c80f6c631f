// A chunk's way: claimed (guests who want to change it wait), read, released (guests go on: its old
// data is in memory), written. If it cannot be read it is unclaimed; if it cannot be written it
// stays in memory, because the source may have changed meanwhile, and is written again when the
// error policy lets the job go on. Memory is bounded by the buffer pool, so unwritten chunks make
// the rest of the path wait for them.
#include "engine/job/background_copy.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/job/extent_walk.h"
#include "engine/job/limits.h"

namespace tidemark::job {
namespace {

uint64_t ChunkBytesMax(const CopyOptions& options) {
  const uint64_t wanted =
      std::clamp<uint64_t>(options.chunk_bytes_max, options.cluster_bytes,
                           std::max<uint64_t>(kChunkBytesMax, options.cluster_bytes));
  return wanted / options.cluster_bytes * options.cluster_bytes;
}

bool IsZero(const std::byte* bytes, size_t length_bytes) {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes);
  return std::all_of(words, words + length_bytes / sizeof(uint64_t),
                     [](uint64_t word) { return word == 0; }) &&
         std::all_of(bytes + length_bytes / sizeof(uint64_t) * sizeof(uint64_t),
                     bytes + length_bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

template <typename Verb>
void ForEachRange(const Batch& batch, const Verb& verb) {
  for (const Batch::Piece& piece : batch.data) verb(piece.range);
  for (const Range& range : batch.zeroes) verb(range);
}

}  // namespace

BackgroundCopy::BackgroundCopy(std::shared_ptr<storage::Storage> source,
                               std::shared_ptr<storage::Storage> target, const CopyOptions& options,
                               CopyClaims* claims, const CopyWorkers& workers)
    : source_(std::move(source)),
      target_(std::move(target)),
      options_(options),
      claims_(claims),
      chunk_bytes_max_(ChunkBytesMax(options)),
      buffers_(chunk_bytes_max_, std::max<int>(2, kInFlightBytesMax / chunk_bytes_max_),
               workers.memory),
      lane_(workers.io, options.workers_max, options.compress) {}

BackgroundCopy::~BackgroundCopy() { Drain(); }

bool BackgroundCopy::IsAwaited() const { return source_->draining() || target_->draining(); }

// ---- One step

BackgroundCopy::Moved BackgroundCopy::Move(uint64_t budget_bytes, bool share, bool stay) {
  const uint64_t chunk_bytes =
      share ? std::max<uint64_t>(std::min<uint64_t>(kChunkBytesShared, chunk_bytes_max_),
                                 options_.cluster_bytes)
            : chunk_bytes_max_;
  const uint64_t depth_bytes = share ? kInFlightBytesShared : kInFlightBytesMax;
  const bool limited = budget_bytes != std::numeric_limits<uint64_t>::max();
  Moved moved;
  if (IsAwaited()) Drain();
  Retry();
  const uint64_t begun_bytes_max = std::min(budget_bytes, kMoveBytesMax);
  while (!io_error_.has_value() && !IsAwaited() && !claims_->is_open() &&
         moved.begun_bytes < begun_bytes_max && in_flight_bytes_ < depth_bytes) {
    uint64_t scanned_bytes = 0;
    std::unique_ptr<Batch> batch =
        Gather(chunk_bytes, limited ? chunk_bytes : kGatherBytesMax, &scanned_bytes);
    moved.begun_bytes += scanned_bytes;
    if (batch != nullptr) {
      Begin(std::move(batch));
    } else if (scanned_bytes == 0) {
      break;  // Nothing to claim, or no memory.
    }
  }
  if (!in_flight_.empty()) Reap();
  if (!stay || io_error_.has_value() || IsAwaited()) Drain();
  moved.io_error = std::exchange(io_error_, absl::nullopt);
  moved.idle = in_flight_.empty() && unwritten_.empty() && claims_->IsEmpty();
  return moved;
}

void BackgroundCopy::Retry() {
  for (std::unique_ptr<Batch>& batch : std::exchange(unwritten_, {})) Begin(std::move(batch));
}

void BackgroundCopy::Begin(std::unique_ptr<Batch> batch) {
  Batch* const begun = batch.get();
  in_flight_bytes_ += begun->data_bytes;
  in_flight_.push_back(std::move(batch));
  // A batch that was read before (was_read) only lacks the writing.
  const bool only_zeroes = begun->data.empty() && !begun->was_read;
  if (only_zeroes) Settle(begun);
  if (only_zeroes || begun->was_read) {
    // There is nothing (left) to read.
    if (!options_.write_through) {
      ForEachRange(*begun, [this](Range range) { claims_->Release(range); });
    }
    lane_.Write(target_.get(), begun);
  } else {
    lane_.Read(source_.get(), begun);
  }
}

void BackgroundCopy::Drain() {
  while (!in_flight_.empty()) Reap();
}

void BackgroundCopy::Drop() {
  for (const auto& batch : std::exchange(unwritten_, {})) {
    ForEachRange(*batch, [this](Range range) { claims_->Lose(range); });
  }
}

// ---- Gathering

std::unique_ptr<Batch> BackgroundCopy::Gather(uint64_t chunk_bytes, uint64_t scan_bytes_max,
                                              uint64_t* scanned_bytes) {
  absl::optional<storage::BufferPool::Loan> loan = buffers_.TryTake();
  if (!loan.has_value()) return nullptr;
  auto batch = std::make_unique<Batch>();
  batch->memory = loan->data();
  batch->loan = std::move(loan);
  const uint64_t wrapped_from = cursor_bytes_;
  for (int stretch = 0; stretch < kStretchesPerBatchMax; ++stretch) {
    // Claims are of whole clusters, but the disk's last one may have left room for a part of one.
    const uint64_t room_bytes = chunk_bytes - batch->data_bytes;
    if (room_bytes < options_.cluster_bytes || *scanned_bytes >= scan_bytes_max) break;
    absl::optional<Range> claimed = claims_->Claim(cursor_bytes_, room_bytes);
    if (!claimed.has_value() && wrapped_from > 0 && cursor_bytes_ >= wrapped_from) {
      // What was given back lies behind.
      cursor_bytes_ = 0;
      claimed = claims_->Claim(0, room_bytes);
    }
    if (!claimed.has_value()) break;
    cursor_bytes_ = claimed->end_bytes();
    *scanned_bytes += claimed->length_bytes;
    if (!GatherStretch(batch.get(), *claimed)) break;
  }
  if (batch->data.empty() && batch->zeroes.empty()) return nullptr;
  return batch;
}

// False if the source could not say what it holds, or too late.
bool BackgroundCopy::GatherStretch(Batch* batch, Range claimed) {
  const absl::StatusOr<std::vector<Stretch>> stretches =
      WalkExtents(source_.get(), claimed, options_.cluster_bytes, options_.only_top_layer);
  if (claims_->is_open() || !stretches.ok()) {
    for (const Range& own : claims_->Settle(claimed)) claims_->Unclaim(own);
    if (!claims_->is_open()) io_error_ = IoError{true, stretches.status()};
    return false;
  }
  for (const Stretch& stretch : *stretches) {
    switch (stretch.holds) {
      case Stretch::Holds::kSkip:
        for (const Range& own : claims_->Settle(stretch.range)) claims_->Skip(own);
        break;
      case Stretch::Holds::kZero:
        if (options_.target_is_zero) {
          for (const Range& own : claims_->Settle(stretch.range)) claims_->Written(own);
        } else {
          batch->AddZeroes(stretch.range);
        }
        break;
      case Stretch::Holds::kData:
        batch->AddData(stretch.range);
        break;
    }
  }
  return true;
}

// ---- Reaping

void BackgroundCopy::Reap() {
  std::vector<Batch*> ended;
  lane_.Reap(kReapTimeout, &ended);
  for (Batch* const batch : ended) HandleEnded(Forget(batch));
}

std::unique_ptr<Batch> BackgroundCopy::Forget(Batch* batch) {
  const auto at = std::find_if(in_flight_.begin(), in_flight_.end(),
                               [batch](const auto& other) { return other.get() == batch; });
  CHECK(at != in_flight_.end());
  std::unique_ptr<Batch> found = std::move(*at);
  in_flight_.erase(at);
  in_flight_bytes_ -= found->data_bytes;
  return found;
}

void BackgroundCopy::HandleEnded(std::unique_ptr<Batch> batch) {
  if (batch->was_read) {
    Settle(batch.get());
    // If the copy was given up meanwhile, guests may have changed what was being read.
    if (!batch->status.ok() || claims_->is_open()) {
      if (!batch->status.ok() && !io_error_.has_value()) io_error_ = IoError{true, batch->status};
      ForEachRange(*batch, [this](Range range) { claims_->Unclaim(range); });
      return;
    }
    if (options_.detect_zeroes) FindZeroes(batch.get());
    Begin(std::move(batch));
    return;
  }
  if (batch->status.ok()) {
    ForEachRange(*batch, [this](Range range) { claims_->Written(range); });
    return;
  }
  if (!io_error_.has_value()) io_error_ = IoError{false, batch->status};
  batch->was_read = true;
  unwritten_.push_back(std::move(batch));
}

// Leaves in the batch what is still this path's.
void BackgroundCopy::Settle(Batch* batch) {
  std::vector<Batch::Piece> data;
  for (const Batch::Piece& piece : batch->data) {
    for (const Range& own : claims_->Settle(piece.range)) {
      const uint64_t skipped_bytes = own.offset_bytes - piece.range.offset_bytes;
      data.push_back({own, piece.memory_offset + skipped_bytes});
    }
  }
  batch->data = std::move(data);
  for (const Range& range : std::exchange(batch->zeroes, {})) {
    for (const Range& own : claims_->Settle(range)) batch->zeroes.push_back(own);
  }
}

// Splits the data at clusters that turned out to be zero.
void BackgroundCopy::FindZeroes(Batch* batch) const {
  std::vector<Batch::Piece> data;
  for (const Batch::Piece& piece : batch->data) {
    for (uint64_t at = 0; at < piece.range.length_bytes; at += options_.cluster_bytes) {
      const uint64_t length = std::min(options_.cluster_bytes, piece.range.length_bytes - at);
      const Range range{piece.range.offset_bytes + at, length};
      const size_t memory_offset = piece.memory_offset + at;
      if (IsZero(batch->memory + memory_offset, length)) {
        if (options_.target_is_zero) {
          claims_->Written(range);
        } else {
          batch->AddZeroes(range);
        }
      } else if (!data.empty() && data.back().range.end_bytes() == range.offset_bytes) {
        data.back().range.length_bytes += length;
      } else {
        data.push_back({range, memory_offset});
      }
    }
  }
  batch->data = std::move(data);
}

// ---- sync=top

absl::StatusOr<bool> BackgroundCopy::WalkTopLayer() {
  const uint64_t size_bytes = claims_->size_bytes();
  for (int walk = 0; walk < kWalksPerStep && walked_bytes_ < size_bytes; ++walk) {
    if (claims_->is_open()) return false;
    const absl::optional<Range> claimed = claims_->Claim(walked_bytes_, kWalkBytesMax);
    if (!claimed.has_value()) {
      walked_bytes_ = size_bytes;
      break;
    }
    absl::StatusOr<std::vector<Stretch>> stretches =
        WalkExtents(source_.get(), *claimed, options_.cluster_bytes, true);
    if (!stretches.ok()) {
      for (const Range& own : claims_->Settle(*claimed)) claims_->Unclaim(own);
      return stretches.status();
    }
    for (const Stretch& stretch : *stretches) {
      for (const Range& own : claims_->Settle(stretch.range)) {
        if (stretch.holds == Stretch::Holds::kSkip) {
          claims_->Skip(own);
        } else {
          claims_->Unclaim(own);
        }
      }
    }
    walked_bytes_ = claimed->end_bytes();
  }
  return walked_bytes_ >= size_bytes;
}

}  // namespace tidemark::job
