// A batch is placed (a call), moved (requests on the queue, and calls), and if it was written
// finished (a call). It ends when everything begun for it has ended: `outstanding` counts requests,
// calls, and the beginning itself (so that a batch cannot end while it is still being begun).
// Requests of neighbouring pieces that are neighbours in the file too become one: scattered
// clusters are read with few requests if the source packed them, and written with few because the
// target packs what is allocated together. For that, too, one call at a time places.
#include "engine/copy/copy_lane.h"

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {

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

CopyLane::CopyLane(LaneWorkers workers, int blocking_max, bool compress)
    : workers_(std::move(workers)),
      compress_(compress),
      source_calls_{.executor = workers_.source, .running_max = blocking_max},
      target_calls_{.executor = workers_.target, .running_max = blocking_max},
      target_order_{.executor = workers_.order} {}

CopyLane::~CopyLane() {
  CHECK(idle());
  {
    // Whoever made the last call may not have left yet.
    MutexLock lock(&mutex_);
    while (source_calls_.running_count + target_calls_.running_count + target_order_.running_count >
           0) {
      changed_.Wait(&mutex_);
    }
  }
  if (is_watched_) workers_.watch->Remove(queue_.get());
}

void CopyLane::Begin(Batch* batch, bool is_read) {
  CHECK(batch->outstanding == 0);
  batch->was_read = is_read;
  batch->is_finishing = false;
  batch->outstanding = 1;
  ++in_flight_;
}

void CopyLane::EndOne(Batch* batch, const absl::Status& status) {
  batch->status.Update(status);
  if (--batch->outstanding > 0) return;
  const bool finishes = !batch->was_read && !batch->placed.empty() && !batch->is_finishing;
  if (finishes) {
    batch->is_finishing = true;
    batch->outstanding = 1;
    const auto finish = [batch] {
      for (const Batch::Placed& placed : batch->placed) {
        if (!batch->status.ok()) break;
        batch->status = placed.placement->Finish();
      }
      // What was not finished is freed again: that may block, too.
      batch->placed.clear();
    };
    return Call(&target_order_, finish, [this, batch] { EndOne(batch, absl::OkStatus()); });
  }
  batch->placed.clear();
  batch->unplaced.clear();
  ended_.push_back(batch);
}

// ---- Reading

void CopyLane::PlaceReads(storage::Storage* source, Batch* batch) {
  batch->status = absl::OkStatus();
  for (const Batch::Piece& piece : batch->data) {
    absl::StatusOr<std::unique_ptr<Placement>> placement = source->PlaceRead(piece.range);
    if (!placement.ok()) {
      batch->status.Update(placement.status());
      return;
    }
    if (*placement == nullptr) {
      batch->unplaced.push_back(piece);
    } else {
      batch->placed.push_back({*std::move(placement), piece.memory_offset});
    }
  }
}

void CopyLane::Read(storage::Storage* source, Batch* batch) {
  Begin(batch, /*is_read=*/true);
  Submit(source, batch);
}

// ---- Writing

namespace {

absl::Status WriteZeroes(storage::Storage* target, const Batch& batch) {
  for (const Range& range : batch.zeroes) RETURN_IF_ERROR(target->WriteZeroes(range));
  return absl::OkStatus();
}

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

absl::Status MoveByCalls(storage::Storage* disk, const Batch& batch) {
  for (const Batch::Piece& piece : batch.unplaced) {
    std::byte* const memory = batch.memory + piece.memory_offset;
    RETURN_IF_ERROR(
        batch.was_read
            ? disk->Read(piece.range.offset_bytes, storage::Bytes(memory, piece.range.length_bytes))
            : disk->Write(piece.range.offset_bytes,
                          storage::ConstBytes(memory, piece.range.length_bytes)));
  }
  return absl::OkStatus();
}

}  // namespace

void CopyLane::Write(storage::Storage* target, Batch* batch) {
  Begin(batch, /*is_read=*/false);
  batch->status = absl::OkStatus();
  const auto place = [target, batch, compress = compress_] {
    batch->status = WriteZeroes(target, *batch);
    if (batch->status.ok() && !compress) PlaceWrites(target, batch);
  };
  Call(&target_order_, place, [this, target, batch] { Submit(target, batch); });
}

void CopyLane::PlaceWrites(storage::Storage* target, Batch* batch) {
  for (const Batch::Piece& piece : batch->data) {
    absl::StatusOr<std::unique_ptr<Placement>> placement = target->PlaceWrite(piece.range);
    if (!placement.ok()) {
      batch->status.Update(placement.status());
      return;
    }
    if (*placement == nullptr) {
      batch->unplaced.push_back(piece);
    } else {
      batch->placed.push_back({*std::move(placement), piece.memory_offset});
    }
  }
}

void CopyLane::Submit(storage::Storage* disk, Batch* batch) {
  if (batch->status.ok()) {
    for (const Batch::Placed& placed : batch->placed) {
      AddRequests(batch, *placed.placement, batch->memory + placed.memory_offset);
    }
    Feed();
    const bool compresses = compress_ && !batch->was_read && !batch->data.empty();
    if (compresses || !batch->unplaced.empty()) {
      ++batch->outstanding;
      auto result = std::make_shared<absl::Status>();
      Call(
          batch->was_read ? &source_calls_ : &target_calls_,
          [disk, batch, compresses, result] {
            *result = compresses ? WriteCompressed(disk, batch) : MoveByCalls(disk, *batch);
          },
          [this, batch, result] { EndOne(batch, *result); });
    }
  }
  EndOne(batch, absl::OkStatus());
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

void CopyLane::MakeQueue() {
  queue_ = storage::MakeIoQueue(kQueueDepth);
  is_watched_ = workers_.watch != nullptr && workers_.watch->Add(queue_.get(), [this] { Ring(); });
}

void CopyLane::Feed() {
  if (queue_ == nullptr && !requests_.empty()) MakeQueue();
  while (!requests_.empty() && queue_->in_flight() < queue_->depth()) {
    queue_->Submit(requests_.front());
    requests_.pop_front();
  }
}

// ---- Calls

void CopyLane::CallSource(std::function<void()> call, std::function<void()> done) {
  Call(&source_calls_, std::move(call), std::move(done));
}

void CopyLane::CallTarget(std::function<void()> call, std::function<void()> done) {
  Call(&target_order_, std::move(call), std::move(done));
}

void CopyLane::Call(CallQueue* queue, Task call, Task done) {
  ++calls_in_flight_;
  if (queue->executor == nullptr) {
    call();
    MutexLock lock(&mutex_);
    returned_.push_back(std::move(done));
    return;
  }
  {
    MutexLock lock(&mutex_);
    queue->waiting.emplace_back(std::move(call), std::move(done));
    if (queue->running_count == queue->running_max) return;
    ++queue->running_count;
  }
  queue->executor->Post([this, queue] { RunCalls(queue); });
}

void CopyLane::RunCalls(CallQueue* queue) {
  for (;;) {
    std::pair<Task, Task> next;
    {
      MutexLock lock(&mutex_);
      if (queue->waiting.empty()) {
        --queue->running_count;
        // With the lock held: the owner may destroy the lane as soon as it has seen this.
        changed_.SignalAll();
        return;
      }
      next = std::move(queue->waiting.front());
      queue->waiting.pop_front();
    }
    next.first();
    {
      MutexLock lock(&mutex_);
      returned_.push_back(std::move(next.second));
      if (waits_at_ != nullptr) waits_at_->Wake();
      changed_.SignalAll();
    }
    Ring();
  }
}

void CopyLane::Ring() {
  {
    MutexLock lock(&mutex_);
    if (!std::exchange(is_armed_, false)) return;
  }
  workers_.ready();
}

bool CopyLane::Arm() {
  {
    MutexLock lock(&mutex_);
    if (!returned_.empty()) return false;
    is_armed_ = true;
  }
  // What ended before was told when nobody listened.
  const bool on_queue = queue_ != nullptr && queue_->in_flight() > 0;
  if (!on_queue || !CollectQueue(absl::ZeroDuration())) return true;
  MutexLock lock(&mutex_);
  is_armed_ = false;
  return false;
}

// ---- Reaping

void CopyLane::Reap(absl::Duration timeout, std::vector<Batch*>* ended) {
  if (!Collect() && timeout > absl::ZeroDuration()) {
    Await(timeout);
    Collect();
  }
  in_flight_ -= static_cast<int>(ended_.size());
  ended->insert(ended->end(), ended_.begin(), ended_.end());
  ended_.clear();
}

bool CopyLane::is_told() const {
  return queue_ == nullptr || queue_->in_flight() == 0 || is_watched_;
}

// Takes all that is there. False if that is nothing.
bool CopyLane::Collect() {
  bool any = !ended_.empty();
  for (bool more = true; more;) {
    std::vector<Task> returned;
    {
      MutexLock lock(&mutex_);
      returned.swap(returned_);
    }
    calls_in_flight_ -= static_cast<int>(returned.size());
    for (const Task& done : returned) done();
    more = !returned.empty();
    if (queue_ != nullptr && queue_->in_flight() > 0) more |= CollectQueue(absl::ZeroDuration());
    any |= more;
  }
  return any;
}

bool CopyLane::CollectQueue(absl::Duration timeout) {
  completions_.clear();
  queue_->Reap(timeout, &completions_);
  for (const IoQueue::Completion& completion : completions_) {
    EndOne(reinterpret_cast<Batch*>(completion.cookie), completion.status);
  }
  Feed();
  return !completions_.empty();
}

void CopyLane::Await(absl::Duration timeout) {
  const bool on_queue = queue_ != nullptr && queue_->in_flight() > 0;
  {
    MutexLock lock(&mutex_);
    if (!returned_.empty()) return;
    if (!on_queue) {
      if (calls_in_flight_ > 0) changed_.WaitFor(&mutex_, timeout);
      return;
    }
    waits_at_ = queue_.get();
  }
  CollectQueue(timeout);
  MutexLock lock(&mutex_);
  waits_at_ = nullptr;
}

}  // namespace tidemark::copy
