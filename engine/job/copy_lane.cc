// A batch is begun, and ends when everything begun for it has ended: `outstanding` counts requests
// on the queue, blocking calls, and the beginning itself (so that a batch cannot end while it is
// still being begun). Requests of neighbouring pieces that are neighbours in the file too become
// one: scattered clusters are read with few requests if the source packed them, and written with
// few because the target packs what is allocated together.
#include "engine/job/copy_lane.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/job/limits.h"

namespace tidemark::job {

using storage::DataFile;
using storage::IoQueue;
using storage::Placement;

void Batch::AddData(Range range) {
  if (!data.empty() && data.back().range.end_bytes() == range.offset_bytes) {
    data.back().range.length_bytes += range.length_bytes;
  } else {
    data.push_back({range, data_bytes});
  }
  data_bytes += range.length_bytes;
}

void Batch::AddZeroes(Range range) {
  if (!zeroes.empty() && zeroes.back().end_bytes() == range.offset_bytes) {
    zeroes.back().length_bytes += range.length_bytes;
  } else {
    zeroes.push_back(range);
  }
}

CopyLane::CopyLane(Executor* workers, int blocking_max, bool compress)
    : workers_(workers), blocking_max_(blocking_max), compress_(compress) {}

CopyLane::~CopyLane() { CHECK(in_flight_ == 0); }

void CopyLane::Begin(Batch* batch, bool is_read) {
  CHECK(batch->outstanding == 0);
  batch->was_read = is_read;
  batch->status = absl::OkStatus();
  batch->outstanding = 1;
  ++in_flight_;
}

void CopyLane::EndOne(Batch* batch, const absl::Status& status) {
  batch->status.Update(status);
  if (--batch->outstanding > 0) return;
  if (!batch->was_read) {
    for (const auto& placement : batch->placements) {
      if (!batch->status.ok()) break;
      batch->status = placement->Finish();
    }
  }
  batch->placements.clear();
  ended_.push_back(batch);
}

// ---- Reading

void CopyLane::Read(storage::Storage* source, Batch* batch) {
  Begin(batch, /*is_read=*/true);
  std::vector<Batch::Piece> unplaced;
  PlaceReads(source, batch, &unplaced);
  Feed();
  if (!unplaced.empty() && batch->status.ok()) {
    RunBlocking(batch, [source, batch, unplaced = std::move(unplaced)] {
      absl::Status status;
      for (const Batch::Piece& piece : unplaced) {
        if (!status.ok()) break;
        status = source->Read(
            piece.range.offset_bytes,
            storage::Bytes(batch->memory + piece.memory_offset, piece.range.length_bytes));
      }
      return status;
    });
  }
  EndOne(batch, absl::OkStatus());
}

void CopyLane::PlaceReads(storage::Storage* source, Batch* batch,
                          std::vector<Batch::Piece>* unplaced) {
  for (const Batch::Piece& piece : batch->data) {
    absl::StatusOr<std::unique_ptr<Placement>> placement = source->PlaceRead(piece.range);
    if (!placement.ok()) {
      batch->status.Update(placement.status());
      return;
    }
    if (*placement == nullptr) {
      unplaced->push_back(piece);
      continue;
    }
    AddRequests(batch, **placement, batch->memory + piece.memory_offset);
    batch->placements.push_back(*std::move(placement));
  }
}

// ---- Writing

namespace {

// One of the target's clusters at a time: each is stored as a whole or not at all.
absl::Status WriteCompressed(storage::Storage* target, Batch* batch) {
  const uint64_t cluster_bytes = target->limits().cluster_size_bytes;
  for (const Batch::Piece& piece : batch->data) {
    const uint64_t step_bytes = cluster_bytes > 0 ? cluster_bytes : piece.range.length_bytes;
    for (uint64_t at = 0; at < piece.range.length_bytes; at += step_bytes) {
      const uint64_t length_bytes = std::min(step_bytes, piece.range.length_bytes - at);
      const size_t memory_offset = piece.memory_offset + at;
      if (memory_offset < batch->stored_bytes) continue;
      RETURN_IF_ERROR(target->Write(
          piece.range.offset_bytes + at,
          storage::ConstBytes(batch->memory + memory_offset, length_bytes), {.compressed = true}));
      batch->stored_bytes = memory_offset + length_bytes;
    }
  }
  return absl::OkStatus();
}

}  // namespace

void CopyLane::Write(storage::Storage* target, Batch* batch) {
  Begin(batch, /*is_read=*/false);
  for (const Range& range : batch->zeroes) {
    if (batch->status.ok()) batch->status = target->WriteZeroes(range);
  }
  std::vector<Batch::Piece> unplaced;
  if (!compress_ && batch->status.ok()) PlaceWrites(target, batch, &unplaced);
  Feed();
  if (compress_ && !batch->data.empty() && batch->status.ok()) {
    RunBlocking(batch, [target, batch] { return WriteCompressed(target, batch); });
  }
  if (!unplaced.empty() && batch->status.ok()) {
    RunBlocking(batch, [target, batch, unplaced = std::move(unplaced)] {
      absl::Status status;
      for (const Batch::Piece& piece : unplaced) {
        if (!status.ok()) break;
        status = target->Write(
            piece.range.offset_bytes,
            storage::ConstBytes(batch->memory + piece.memory_offset, piece.range.length_bytes));
      }
      return status;
    });
  }
  EndOne(batch, absl::OkStatus());
}

void CopyLane::PlaceWrites(storage::Storage* target, Batch* batch,
                           std::vector<Batch::Piece>* unplaced) {
  for (const Batch::Piece& piece : batch->data) {
    absl::StatusOr<std::unique_ptr<Placement>> placement = target->PlaceWrite(piece.range);
    if (!placement.ok()) {
      batch->status.Update(placement.status());
      return;
    }
    if (*placement == nullptr) {
      unplaced->push_back(piece);
      continue;
    }
    AddRequests(batch, **placement, batch->memory + piece.memory_offset);
    batch->placements.push_back(*std::move(placement));
  }
}

// ---- Requests

void CopyLane::AddRequests(Batch* batch, const Placement& placement, std::byte* memory) {
  for (const Placement::Piece& piece : placement.pieces()) {
    const size_t length_bytes = piece.range.length_bytes;
    if (piece.target == nullptr) {
      CHECK(batch->was_read);
      std::memset(memory, 0, length_bytes);
    } else {
      const IoQueue::Request request{
          .operation = batch->was_read ? IoQueue::Operation::kRead : IoQueue::Operation::kWrite,
          .target = piece.target,
          .offset_bytes = piece.target_offset_bytes,
          .memory = memory,
          .length_bytes = length_bytes,
          .cookie = reinterpret_cast<uint64_t>(batch)};
      const DataFile* const file = piece.target->file();
      const bool can_be_direct = file != nullptr && file->direct_fd >= 0;
      if (can_be_direct && (!batch->was_read || file->prefer_direct)) {
        AddDirectRequest(*file, request);
      } else {
        AddRequest(request);
      }
    }
    memory += length_bytes;
  }
}

void CopyLane::AddDirectRequest(const DataFile& file, IoQueue::Request request) {
  const uint64_t mask = file.direct_alignment_bytes - 1;
  const uint64_t memory_at = reinterpret_cast<uint64_t>(request.memory);
  if (((request.offset_bytes | memory_at) & mask) != 0) return AddRequest(request);
  // What is left over at the end of the disk goes through the page cache.
  const size_t whole_bytes = request.length_bytes & ~mask;
  const size_t rest_bytes = request.length_bytes - whole_bytes;
  if (whole_bytes > 0) {
    IoQueue::Request whole = request;
    whole.direct = true;
    whole.length_bytes = whole_bytes;
    AddRequest(whole);
  }
  if (rest_bytes > 0) {
    request.offset_bytes += whole_bytes;
    request.memory += whole_bytes;
    request.length_bytes = rest_bytes;
    AddRequest(request);
  }
}

void CopyLane::AddRequest(const IoQueue::Request& request) {
  Batch* const batch = reinterpret_cast<Batch*>(request.cookie);
  if (!requests_.empty()) {
    IoQueue::Request& last = requests_.back();
    const bool follows = last.cookie == request.cookie && last.target == request.target &&
                         last.direct == request.direct &&
                         last.offset_bytes + last.length_bytes == request.offset_bytes &&
                         last.memory + last.length_bytes == request.memory;
    if (follows) {
      last.length_bytes += request.length_bytes;
      return;
    }
  }
  requests_.push_back(request);
  ++batch->outstanding;
}

void CopyLane::Feed() {
  if (queue_ == nullptr && !requests_.empty()) queue_ = storage::MakeIoQueue(kQueueDepth);
  while (!requests_.empty() && queue_->in_flight() < queue_->depth()) {
    queue_->Submit(requests_.front());
    requests_.pop_front();
  }
}

// ---- Blocking calls

void CopyLane::RunBlocking(Batch* batch, Call call) {
  ++batch->outstanding;
  if (workers_ == nullptr) {
    EndOne(batch, call());
    return;
  }
  calls_.emplace_back(batch, std::move(call));
  FeedCalls();
}

void CopyLane::FeedCalls() {
  while (!calls_.empty() && calls_in_flight_ < blocking_max_) {
    ++calls_in_flight_;
    workers_->Post([this, batch = calls_.front().first, call = std::move(calls_.front().second)] {
      absl::Status status = call();
      MutexLock lock(&mutex_);
      returned_.emplace_back(batch, std::move(status));
      // With the lock held: the owner may destroy the lane as soon as it has seen the last return.
      returned_changed_.Signal();
    });
    calls_.pop_front();
  }
}

// ---- Reaping

void CopyLane::Reap(absl::Duration timeout, std::vector<Batch*>* ended) {
  const bool can_wait = ended_.empty();
  const bool on_queue = queue_ != nullptr && queue_->in_flight() > 0;
  if (calls_in_flight_ == 0) {
    if (on_queue) CollectQueue(can_wait ? timeout : absl::ZeroDuration());
  } else if (!on_queue) {
    CollectCalls(can_wait ? timeout : absl::ZeroDuration());
  } else {
    // Two places to wait at; a short wait at one, and the owner comes again.
    CollectQueue(absl::ZeroDuration());
    CollectCalls(ended_.empty() ? std::min(timeout, kMixedWait) : absl::ZeroDuration());
  }
  in_flight_ -= ended_.size();
  ended->insert(ended->end(), ended_.begin(), ended_.end());
  ended_.clear();
}

void CopyLane::CollectQueue(absl::Duration timeout) {
  completions_.clear();
  queue_->Reap(timeout, &completions_);
  for (const IoQueue::Completion& completion : completions_) {
    EndOne(reinterpret_cast<Batch*>(completion.cookie), completion.status);
  }
  Feed();
}

void CopyLane::CollectCalls(absl::Duration timeout) {
  std::vector<std::pair<Batch*, absl::Status>> returned;
  {
    MutexLock lock(&mutex_);
    if (returned_.empty() && timeout > absl::ZeroDuration()) {
      returned_changed_.WaitFor(&mutex_, timeout);
    }
    returned.swap(returned_);
  }
  calls_in_flight_ -= returned.size();
  for (const auto& [batch, status] : returned) EndOne(batch, status);
  FeedCalls();
}

}  // namespace tidemark::job
