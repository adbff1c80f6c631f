// A chunk's way: claimed (guests who want to change it wait), read, released (guests go on: its old
// data is in memory), written. If it cannot be read it is unclaimed; if it cannot be written it
// stays in memory, because the source may have changed meanwhile, and is written again when the
// error policy lets the job go on. Memory is bounded by the buffer pool, so unwritten chunks make
// the rest of the path wait for them.
//
// Nothing here waits for a disk while it decides: finding and claiming is a call on the source's
// side, several chunks at a time; placing, finishing and zeroes are calls on the target's. So a
// target that stands still keeps nobody from releasing what was read.
#include "engine/copy/background_copy.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/copy/extent_walk.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {
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

// How much of a hole may be claimed at a time.
uint64_t HoleBytesMax(const CopyOptions& options, const storage::Storage& target) {
  if (options.target_is_zero) return kHoleBytesMax;
  return target.limits().can_write_zeroes_fast ? kZeroBytesMax : kZeroBytesSlowMax;
}

}  // namespace

BackgroundCopy::BackgroundCopy(std::shared_ptr<storage::Storage> source,
                               std::shared_ptr<storage::Storage> target, const CopyOptions& options,
                               CopyClaims* claims, LaneWorkers workers, Budget* memory)
    : source_(std::move(source)),
      target_(std::move(target)),
      options_(options),
      claims_(claims),
      can_wait_(workers.watch == nullptr),
      chunk_bytes_max_(ChunkBytesMax(options)),
      buffers_(chunk_bytes_max_, std::max<int>(2, options.in_flight_bytes_max / chunk_bytes_max_),
               memory),
      lane_(std::move(workers), options.workers_max, options.compress) {}

BackgroundCopy::~BackgroundCopy() { Drain(); }

bool BackgroundCopy::IsAwaited() const { return source_->draining() || target_->draining(); }

// ---- One step

BackgroundCopy::Moved BackgroundCopy::Move(uint64_t budget_bytes, bool share) {
  const bool is_limited = budget_bytes != std::numeric_limits<uint64_t>::max();
  const uint64_t chunk_bytes =
      share ? std::max<uint64_t>(std::min<uint64_t>(kChunkBytesShared, chunk_bytes_max_),
                                 options_.cluster_bytes)
            : chunk_bytes_max_;
  Moved moved;
  Reap(absl::ZeroDuration());
  if (can_wait_ && IsAwaited()) Drain();
  moved.begun_bytes = TakeBegun(is_limited);
  if (CanBegin()) Retry();
  const uint64_t room_bytes = RoomBytes(chunk_bytes, share);
  bool is_held = false;
  const bool is_starved = is_starved_ && !in_flight_.empty();
  if (CanBegin() && !is_calling_ && !is_starved && room_bytes > 0 && !claims_->IsEmpty()) {
    is_held = moved.begun_bytes >= budget_bytes;
    if (!is_held) BeginGather(chunk_bytes, room_bytes, budget_bytes - moved.begun_bytes);
  }
  if (can_wait_) {
    if (!lane_.idle()) Reap(kReapTimeout);
    if (is_limited || io_error_.has_value() || IsAwaited()) Drain();
    moved.begun_bytes += TakeBegun(is_limited);
  }
  moved.idle = lane_.idle() && unwritten_.empty() && claims_->IsEmpty();
  Rest(&moved);
  // What holds it back is its speed, which others keep.
  if (is_held) moved.waits = false;
  return moved;
}

// Nothing, until there is room for a good deal: what is found together is found cheaply.
uint64_t BackgroundCopy::RoomBytes(uint64_t chunk_bytes, bool share) const {
  const uint64_t depth_bytes =
      share ? std::min<uint64_t>(kInFlightBytesShared, options_.in_flight_bytes_max)
            : options_.in_flight_bytes_max;
  const bool has_memory = buffers_.on_loan() < buffers_.buffer_count_max();
  if (in_flight_bytes_ >= depth_bytes || !has_memory) return 0;
  const uint64_t room_bytes = depth_bytes - in_flight_bytes_;
  return room_bytes >= std::max(chunk_bytes, depth_bytes / 4) || lane_.idle() ? room_bytes : 0;
}

// The end of every step: what went wrong, and whether there is something to wait for.
void BackgroundCopy::Rest(Moved* moved) {
  moved->io_error = std::exchange(io_error_, absl::nullopt);
  Wait(moved);
}

void BackgroundCopy::Wait(Moved* moved) {
  moved->in_flight = !lane_.idle();
  if (can_wait_ || moved->idle || moved->io_error.has_value()) return;
  if (lane_.idle()) {
    // Somebody waits until nothing is in flight: he has his turn now.
    moved->waits = IsAwaited();
    moved->delay = kGuestLookAround;
  } else {
    moved->waits = lane_.Arm();
    if (!moved->waits) {
      moved->delay = absl::ZeroDuration();  // Something has ended just now.
    } else if (!lane_.is_told()) {
      moved->delay = kUntoldInterval;
    }
  }
}

// What was begun while there was no limit is not held against it.
uint64_t BackgroundCopy::TakeBegun(bool is_limited) {
  const uint64_t free_bytes = std::exchange(begun_free_bytes_, 0);
  return std::exchange(begun_limited_bytes_, 0) + (is_limited ? 0 : free_bytes);
}

void BackgroundCopy::Retry() {
  for (std::unique_ptr<Batch>& batch : std::exchange(unwritten_, {})) Begin(std::move(batch));
}

void BackgroundCopy::Begin(std::unique_ptr<Batch> batch) {
  Batch* const begun = batch.get();
  // A batch that was read before (was_read) only lacks the writing.
  const bool only_zeroes = begun->data.empty() && !begun->was_read;
  if (only_zeroes) Settle(begun);
  const bool reads = !only_zeroes && !begun->was_read;
  if (!reads && !options_.write_through) {
    ForEachRange(*begun, [this](Range range) { claims_->Release(range); });
  }
  if (!reads && begun->data.empty() && begun->zeroes.empty()) return;
  if (!reads) flushed_ = absl::nullopt;
  in_flight_bytes_ += begun->data_bytes;
  in_flight_.push_back(std::move(batch));
  if (reads) {
    lane_.Read(source_.get(), begun);
  } else {
    lane_.Write(target_.get(), begun);
  }
}

bool BackgroundCopy::TryDrain() {
  if (can_wait_) {
    Drain();
    return true;
  }
  do {
    Reap(absl::ZeroDuration());
    if (lane_.idle()) return true;
  } while (!lane_.Arm());
  return false;
}

void BackgroundCopy::Drain() {
  while (!lane_.idle()) Reap(kReapTimeout);
}

void BackgroundCopy::Drop() {
  for (const auto& batch : std::exchange(unwritten_, {})) {
    ForEachRange(*batch, [this](Range range) { claims_->Lose(range); });
  }
}

// ---- Gathering

void BackgroundCopy::BeginGather(uint64_t chunk_bytes, uint64_t room_bytes, uint64_t budget_bytes) {
  auto gathered = std::make_shared<Gathered>();
  gathered->chunk_bytes = chunk_bytes;
  gathered->room_bytes = room_bytes;
  gathered->scan_bytes_max = budget_bytes;
  gathered->is_limited = budget_bytes <= std::numeric_limits<int64_t>::max();
  is_calling_ = true;
  lane_.CallSource([this, gathered] { Gather(gathered.get()); },
                   [this, gathered] { EndGather(gathered.get()); });
}

void BackgroundCopy::EndGather(Gathered* gathered) {
  is_calling_ = false;
  is_starved_ = gathered->batches.empty() && gathered->scanned_bytes == 0;
  (gathered->is_limited ? begun_limited_bytes_ : begun_free_bytes_) += gathered->scanned_bytes;
  if (gathered->io_error.has_value() && !io_error_.has_value()) io_error_ = gathered->io_error;
  for (std::unique_ptr<Batch>& batch : gathered->batches) Begin(std::move(batch));
}

void BackgroundCopy::Gather(Gathered* gathered) {
  for (int i = 0; i < kBatchesPerGatherMax; ++i) {
    if (gathered->io_error.has_value() || claims_->is_open() || IsAwaited()) return;
    if (gathered->scanned_bytes >= gathered->scan_bytes_max) return;
    if (gathered->data_bytes >= gathered->room_bytes) return;
    const uint64_t scanned_bytes_before = gathered->scanned_bytes;
    std::unique_ptr<Batch> batch = GatherBatch(gathered);
    // Nothing to claim, or no memory.
    if (batch == nullptr && gathered->scanned_bytes == scanned_bytes_before) return;
    if (batch == nullptr) continue;
    CopyLane::PlaceReads(source_.get(), batch.get());
    gathered->data_bytes += batch->data_bytes;
    gathered->batches.push_back(std::move(batch));
  }
}

// The next chunk; null if there was nothing to claim, nothing to move, or no memory.
std::unique_ptr<Batch> BackgroundCopy::GatherBatch(Gathered* gathered) {
  absl::optional<storage::BufferPool::Loan> loan = buffers_.TryTake();
  if (!loan.has_value()) return nullptr;
  auto batch = std::make_unique<Batch>();
  batch->memory = loan->data();
  batch->loan = std::move(loan);
  const uint64_t scan_bytes_max =
      gathered->is_limited ? gathered->chunk_bytes : std::numeric_limits<uint64_t>::max();
  const uint64_t scanned_bytes_before = gathered->scanned_bytes;
  for (int stretch = 0; stretch < kStretchesPerBatchMax; ++stretch) {
    // Claims are of whole clusters, but the disk's last one may have left room for a part of one.
    const uint64_t room_bytes = gathered->chunk_bytes - batch->data_bytes;
    if (room_bytes < options_.cluster_bytes) break;
    if (gathered->scanned_bytes - scanned_bytes_before >= scan_bytes_max) break;
    uint64_t claim_bytes = room_bytes;
    if (!gathered->is_limited && hole_bytes_ > 0) {
      claim_bytes =
          std::max(room_bytes, std::min(2 * hole_bytes_, HoleBytesMax(options_, *target_)));
    }
    const absl::optional<Range> claimed = ClaimNext(claim_bytes);
    if (!claimed.has_value()) break;
    if (!GatherStretch(gathered, batch.get(), *claimed, room_bytes)) break;
  }
  if (batch->data.empty() && batch->zeroes.empty()) return nullptr;
  return batch;
}

absl::optional<Range> BackgroundCopy::ClaimNext(uint64_t length_bytes_max) {
  absl::optional<Range> claimed = claims_->Claim(cursor_bytes_, length_bytes_max);
  // What was given back lies behind.
  if (!claimed.has_value() && cursor_bytes_ > 0) claimed = claims_->Claim(0, length_bytes_max);
  if (claimed.has_value()) cursor_bytes_ = claimed->end_bytes();
  return claimed;
}

// False if the source could not say what it holds, or too late.
bool BackgroundCopy::GatherStretch(Gathered* gathered, Batch* batch, Range claimed,
                                   uint64_t room_bytes) {
  const absl::StatusOr<std::vector<Stretch>> stretches = WalkClaimed(&claimed, room_bytes);
  gathered->scanned_bytes += claimed.length_bytes;
  if (claims_->is_open()) {
    GiveBack(claimed);
    return false;
  }
  if (!stretches.ok()) {
    SkipFailed(claimed);
    gathered->io_error = IoError{true, stretches.status()};
    return false;
  }
  NoteHole(claimed, *stretches);
  Sort(batch, *stretches);
  return true;
}

// What is claimed in the hope of a hole is looked at once, and given back as far as it is none.
absl::StatusOr<std::vector<Stretch>> BackgroundCopy::WalkClaimed(Range* claimed,
                                                                 uint64_t room_bytes) {
  if (claimed->length_bytes > room_bytes) {
    ASSIGN_OR_RETURN(
        const Stretch first,
        FirstStretch(source_.get(), *claimed, options_.cluster_bytes, options_.only_top_layer));
    const bool is_hole = first.holds != Stretch::Holds::kData;
    const uint64_t kept_bytes = is_hole
                                    ? first.range.length_bytes
                                    : room_bytes / options_.cluster_bytes * options_.cluster_bytes;
    const Range kept{claimed->offset_bytes, kept_bytes};
    GiveBack(Range::FromTo(kept.end_bytes(), claimed->end_bytes()));
    cursor_bytes_ = kept.end_bytes();
    *claimed = kept;
    if (is_hole) return std::vector<Stretch>{{kept, first.holds}};
  }
  return WalkExtents(source_.get(), *claimed, options_.cluster_bytes, options_.only_top_layer);
}

void BackgroundCopy::NoteHole(Range claimed, const std::vector<Stretch>& stretches) {
  const bool is_hole = stretches.size() == 1 && stretches.front().holds != Stretch::Holds::kData;
  hole_bytes_ = is_hole ? claimed.length_bytes : 0;
}

void BackgroundCopy::Sort(Batch* batch, const std::vector<Stretch>& stretches) {
  for (const Stretch& stretch : stretches) {
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
}

void BackgroundCopy::GiveBack(Range claimed) {
  if (claimed.empty()) return;
  for (const Range& own : claims_->Settle(claimed)) claims_->Unclaim(own);
}

// Nothing of it could be found out: to be tried again, unless that is not wanted.
void BackgroundCopy::SkipFailed(Range claimed) {
  if (!options_.skips_failed) return GiveBack(claimed);
  for (const Range& own : claims_->Settle(claimed)) claims_->Skip(own);
}

// ---- Reaping

void BackgroundCopy::Reap(absl::Duration timeout) {
  std::vector<Batch*> ended;
  lane_.Reap(timeout, &ended);
  for (Batch* const batch : ended) HandleEnded(Forget(batch));
}

std::unique_ptr<Batch> BackgroundCopy::Forget(Batch* batch) {
  const auto at = std::find_if(in_flight_.begin(), in_flight_.end(),
                               [batch](const auto& other) { return other.get() == batch; });
  CHECK(at != in_flight_.end());
  std::unique_ptr<Batch> found = std::move(*at);
  in_flight_.erase(at);
  is_starved_ = false;
  in_flight_bytes_ -= found->data_bytes;
  return found;
}

void BackgroundCopy::HandleEnded(std::unique_ptr<Batch> batch) {
  if (batch->was_read) {
    Settle(batch.get());
    // If the copy was given up meanwhile, guests may have changed what was being read.
    if (!batch->status.ok() || claims_->is_open()) {
      if (!batch->status.ok() && !io_error_.has_value()) io_error_ = IoError{true, batch->status};
      ForEachRange(*batch, [this](Range range) {
        options_.skips_failed ? claims_->Skip(range) : claims_->Unclaim(range);
      });
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
  if (options_.skips_failed) {
    ForEachRange(*batch, [this](Range range) { claims_->Written(range); });  // Or as good as.
    return;
  }
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

// ---- sync=top, and the end

BackgroundCopy::Moved BackgroundCopy::Walk() {
  const uint64_t size_bytes = claims_->size_bytes();
  Moved moved;
  Reap(absl::ZeroDuration());
  if (CanBegin() && !is_calling_ && walked_bytes_ < size_bytes) {
    is_calling_ = true;
    auto status = std::make_shared<absl::Status>();
    lane_.CallSource([this, status] { *status = WalkSome(); },
                     [this, status] {
                       is_calling_ = false;
                       if (!status->ok()) io_error_ = IoError{/*is_read=*/true, *status};
                     });
    if (can_wait_) Drain();
  }
  moved.idle = !is_calling_ && lane_.idle() && walked_bytes_ >= size_bytes;
  Rest(&moved);
  return moved;
}

absl::Status BackgroundCopy::WalkSome() {
  const uint64_t size_bytes = claims_->size_bytes();
  // A cluster at least, or the walk would not get past it.
  const uint64_t walk_bytes = std::max<uint64_t>(kWalkBytesMax, options_.cluster_bytes);
  for (int walk = 0; walk < kWalksPerStep && walked_bytes_ < size_bytes; ++walk) {
    if (claims_->is_open()) return absl::OkStatus();
    const uint64_t claim_bytes = std::max(walk_bytes, std::min(2 * hole_bytes_, kHoleBytesMax));
    absl::optional<Range> claimed = claims_->Claim(walked_bytes_, claim_bytes);
    if (!claimed.has_value()) {
      walked_bytes_ = size_bytes;
      break;
    }
    const absl::StatusOr<std::vector<Stretch>> stretches = WalkClaimed(&*claimed, walk_bytes);
    if (!stretches.ok()) {
      if (options_.skips_failed) walked_bytes_ = claimed->end_bytes();
      SkipFailed(*claimed);
      return stretches.status();
    }
    for (const Stretch& stretch : *stretches) {
      if (stretch.holds == Stretch::Holds::kSkip) {
        for (const Range& own : claims_->Settle(stretch.range)) claims_->Skip(own);
      } else {
        GiveBack(stretch.range);
      }
    }
    NoteHole(*claimed, *stretches);
    walked_bytes_ = claimed->end_bytes();
  }
  if (walked_bytes_ >= size_bytes) cursor_bytes_ = 0;
  return absl::OkStatus();
}

BackgroundCopy::Moved BackgroundCopy::Flush() {
  Moved moved;
  Reap(absl::ZeroDuration());
  if (!flushed_.has_value() && !is_calling_) {
    is_calling_ = true;
    auto status = std::make_shared<absl::Status>();
    lane_.CallTarget([this, status] { *status = target_->Flush(); },
                     [this, status] {
                       is_calling_ = false;
                       flushed_ = *status;
                     });
    if (can_wait_) Drain();
    Reap(absl::ZeroDuration());
  }
  moved.idle = flushed_.has_value() && flushed_->ok() && lane_.idle();
  if (flushed_.has_value() && !flushed_->ok()) {
    moved.io_error = IoError{/*is_read=*/false, *std::exchange(flushed_, absl::nullopt)};
  }
  Wait(&moved);
  return moved;
}

}  // namespace tidemark::copy
