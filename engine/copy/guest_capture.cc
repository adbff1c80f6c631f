#include "engine/copy/guest_capture.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {

GuestCapture::GuestCapture(std::shared_ptr<storage::Storage> source, const CopyOptions& options,
                           CopyTruth* truth, WriteOut* write_out, Clock* clock,
                           std::function<void()> wake)
    : source_(std::move(source)),
      options_(options),
      truth_(truth),
      write_out_(write_out),
      clock_(clock),
      wake_(std::move(wake)),
      last_capture_ns_(absl::ToInt64Nanoseconds(clock->Elapsed() - 2 * kGuestQuiet)) {}

void GuestCapture::Capture(Range range) {
  const Range clusters =
      range.AlignedOut(truth_->cluster_bytes()).Intersect({0, truth_->to_copy().size_bytes()});
  if (truth_->is_open()) return;
  const absl::Duration begin = clock_->Elapsed();
  last_capture_ns_ = absl::ToInt64Nanoseconds(begin);
  if (!truth_->IsGuarded(clusters) && !truth_->AwaitsReaders(clusters)) return;
  {
    MutexLock lock(&mutex_);
    ++inside_count_;
  }
  CaptureGuarded(clusters, begin);
  if (truth_->AwaitsReaders(clusters)) AwaitReaders(clusters);
  {
    MutexLock lock(&mutex_);
    --inside_count_;
  }
  left_.SignalAll();
}

void GuestCapture::CaptureGuarded(Range clusters, absl::Duration begin) {
  const auto look_around = [this, since = begin,
                            copied_bytes = truth_->progress().current_bytes]() mutable {
    // Otherwise guests wait for reads of the source only, which are theirs, too.
    if (!options_.write_through) return;
    // What the background has written through is progress of the target as well.
    const uint64_t copied_bytes_before =
        std::exchange(copied_bytes, truth_->progress().current_bytes);
    if (copied_bytes != copied_bytes_before) since = clock_->Elapsed();
    if (write_out_->IsStalled(since)) GiveUp(TargetStalled());
  };
  for (;;) {
    const absl::optional<Range> claimed =
        truth_->ClaimOrAwait(clusters, kCaptureClaimBytes, look_around);
    if (!claimed.has_value()) break;
    if (absl::Status status = Save(*claimed); !status.ok()) GiveUp(std::move(status));
  }
}

// The old data is in the target. Who looked for it there before is about to read the source.
void GuestCapture::AwaitReaders(Range clusters) {
  const absl::Duration begin = clock_->Elapsed();
  const bool gone = options_.await_target_reads(clusters, [this, begin] {
    return truth_->is_open() || clock_->Elapsed() - begin >= kGuestStallMax;
  });
  if (gone) {
    truth_->ReadersGone(clusters);
  } else {
    GiveUp(Error(Reason::kIoError,
                 "a reader of the target took too long while a guest was waiting to write: the "
                 "copy was given up, so that the guest can go on"));
  }
}

absl::Status GuestCapture::Save(Range claimed) {
  absl::StatusOr<std::vector<Stretch>> stretches =
      WalkExtents(source_.get(), claimed, truth_->cluster_bytes(), options_.only_top_layer);
  absl::Status status = stretches.status();
  uint64_t saved_end = claimed.offset_bytes;
  const uint64_t piece_bytes = std::max<uint64_t>(kCapturePieceBytes, truth_->cluster_bytes());
  for (size_t i = 0; status.ok() && i < stretches->size(); ++i) {
    Range rest = (*stretches)[i].range;
    while (status.ok() && !rest.empty()) {
      Range piece = rest;
      switch ((*stretches)[i].holds) {
        case Stretch::Holds::kSkip:
          truth_->Skip(piece);
          break;
        case Stretch::Holds::kZero:
          status = SaveZeroes(piece);
          break;
        case Stretch::Holds::kData:
          piece.length_bytes = std::min(piece.length_bytes, piece_bytes);
          status = SaveData(piece);
          break;
      }
      if (status.ok()) saved_end = piece.end_bytes();
      rest = Range::FromTo(piece.end_bytes(), rest.end_bytes());
    }
  }
  if (!status.ok()) truth_->Unclaim(Range::FromTo(saved_end, claimed.end_bytes()));
  return status;
}

absl::Status GuestCapture::SaveData(Range range) {
  if (!Reserve(range.length_bytes)) return TargetStalled();
  std::unique_ptr<Batch> batch = write_out_->MakeBatch(range);
  absl::Status status =
      source_->Read(range.offset_bytes, storage::Bytes(batch->memory, range.length_bytes));
  // Read too late: another guest may have been let through before.
  if (status.ok() && truth_->is_open()) status = absl::CancelledError("the copy was given up");
  if (!status.ok()) {
    write_out_->Unreserve(range.length_bytes);
    return status;
  }
  // Released before it is on its way: the other way round it could be written, then released.
  if (!options_.write_through) truth_->Release(range);
  write_out_->Add(std::move(batch), range.length_bytes);
  return absl::OkStatus();
}

absl::Status GuestCapture::SaveZeroes(Range range) {
  if (truth_->is_open()) return absl::CancelledError("the copy was given up");
  if (options_.target_is_zero) {
    truth_->Written(range);
    return absl::OkStatus();
  }
  if (!Reserve(kZeroRecordBytes)) return TargetStalled();
  auto batch = std::make_unique<Batch>();
  batch->AddZeroes(range);
  if (!options_.write_through) truth_->Release(range);
  write_out_->Add(std::move(batch), kZeroRecordBytes);
  return absl::OkStatus();
}

bool GuestCapture::Reserve(size_t bytes) { return write_out_->Reserve(bytes); }

absl::Status GuestCapture::TargetStalled() const {
  return Error(Reason::kIoError,
               "the target took no data for too long while a guest was waiting to write: the copy "
               "was given up, so that the guest can go on");
}

void GuestCapture::GiveUp(absl::Status why) {
  {
    MutexLock lock(&mutex_);
    if (truth_->is_open()) return;
    lost_ = std::move(why);
  }
  Stop();
  wake_();
}

void GuestCapture::Stop() {
  truth_->Open();
  write_out_->Stop();
}

absl::Status GuestCapture::lost() const {
  MutexLock lock(&mutex_);
  return lost_;
}

bool GuestCapture::IsBusy() const {
  const absl::Duration last = absl::Nanoseconds(last_capture_ns_.load());
  return clock_->Elapsed() - last < kGuestQuiet;
}

bool GuestCapture::AwaitEmpty(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  if (inside_count_ > 0) left_.WaitFor(&mutex_, timeout);
  return inside_count_ == 0;
}

}  // namespace tidemark::copy
