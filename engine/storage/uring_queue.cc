// One ring per queue. Every request occupies a slot until it is finished: its number travels as
// user_data, so a short transfer is continued from the slot. One more entry of the ring polls an
// eventfd, by which Wake reaches a thread that sleeps in the kernel. Requests to targets that want
// calls are served by a queue of threads beside the ring, which rings the same bell.
#include "engine/storage/uring_queue.h"

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/storage/io_request.h"
#include "engine/storage/limits.h"
#include "engine/storage/thread_queue.h"
#include "engine/storage/transfer.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kWakeTag = ~uint64_t{0};

class UringQueue final : public IoQueue {
 public:
  explicit UringQueue(int depth) : depth_(depth), slots_(depth) {
    for (int i = depth - 1; i >= 0; --i) free_slots_.push_back(i);
  }

  // False where io_uring cannot be had.
  bool Open() {
    wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd_ < 0) return false;
    io_uring_params params = {};
    if (io_uring_queue_init_params(depth_ + 1, &ring_, &params) != 0) return false;
    opened_ = true;
    // Waiting with a timeout needs this; kernels that have it have all else too.
    if ((params.features & IORING_FEAT_EXT_ARG) == 0) return false;
    PollWake();
    return true;
  }

  ~UringQueue() override {
    std::vector<Completion> completions;
    while (in_flight() > 0) Reap(absl::InfiniteDuration(), &completions);
    calls_ = nullptr;
    if (opened_) io_uring_queue_exit(&ring_);
    if (wake_fd_ >= 0) close(wake_fd_);
  }

  void Submit(const Request& request) override {
    CHECK(in_flight() < depth_);
    // Nothing to move: the kernel's 0 would look like the end of the file, or a full disk.
    if (request.length_bytes == 0) {
      finished_.push_back({request.cookie, absl::OkStatus()});
      return;
    }
    if (request.target->file() == nullptr) return Call(request);
    const int number = free_slots_.back();
    free_slots_.pop_back();
    slots_[number] = {request, 0};
    Prepare(number);
    Enter();
  }

  void Reap(absl::Duration timeout, std::vector<Completion>* completions) override {
    const size_t size_before = completions->size();
    const absl::Duration deadline = SystemClock().Elapsed() + timeout;
    for (;;) {
      completions->insert(completions->end(), finished_.begin(), finished_.end());
      finished_.clear();
      Drain(completions);
      if (calls_ != nullptr) calls_->Reap(absl::ZeroDuration(), completions);
      const bool was_woken = woken_.exchange(false);
      if (was_woken || completions->size() > size_before) return;
      const absl::Duration left = deadline - SystemClock().Elapsed();
      if (left <= absl::ZeroDuration()) return;
      Await(left);
    }
  }

  void Wake() override {
    woken_ = true;
    Ring();
  }

  int in_flight() const override {
    return depth_ - static_cast<int>(free_slots_.size()) + static_cast<int>(finished_.size()) +
           (calls_ == nullptr ? 0 : calls_->in_flight());
  }
  int depth() const override { return depth_; }

 private:
  struct Slot {
    Request request;
    size_t done_bytes = 0;
  };

  // Ends the sleep of a thread in Reap, or the next one. Any thread.
  void Ring() {
    const uint64_t one = 1;
    // Fails only if the counter is full: it is awake then.
    (void)!write(wake_fd_, &one, sizeof(one));
  }

  void Call(const Request& request) {
    if (calls_ == nullptr) calls_ = MakeThreadQueue(depth_, [this] { Ring(); });
    calls_->Submit(request);
  }

  io_uring_sqe* NextEntry() {
    // Entries are handed over one by one, so one is always free.
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    CHECK(entry != nullptr);
    return entry;
  }

  void Prepare(int number) {
    const Slot& slot = slots_[number];
    const Request& request = slot.request;
    std::byte* const memory = request.memory + slot.done_bytes;
    const auto length =
        static_cast<unsigned>(std::min(request.length_bytes - slot.done_bytes, kTransferBytesMax));
    const uint64_t offset_bytes = request.offset_bytes + slot.done_bytes;
    io_uring_sqe* const entry = NextEntry();
    if (request.operation == Operation::kRead) {
      io_uring_prep_read(entry, DescriptorOf(request), memory, length, offset_bytes);
    } else {
      io_uring_prep_write(entry, DescriptorOf(request), memory, length, offset_bytes);
    }
    entry->user_data = number;
  }

  void PollWake() {
    io_uring_sqe* const entry = NextEntry();
    io_uring_prep_poll_add(entry, wake_fd_, POLLIN);
    entry->user_data = kWakeTag;
    Enter();
  }

  void Enter() {
    // EAGAIN and EBUSY: the kernel is short of memory for a moment. The ring has room for all.
    for (;;) {
      const int result = io_uring_submit(&ring_);
      if (result >= 0) return;
      CHECK(result == -EINTR || result == -EAGAIN || result == -EBUSY);
    }
  }

  // Takes what has completed in the ring.
  void Drain(std::vector<Completion>* completions) {
    io_uring_cqe* answer = nullptr;
    while (io_uring_peek_cqe(&ring_, &answer) == 0) {
      const uint64_t tag = answer->user_data;
      const int result = answer->res;
      io_uring_cqe_seen(&ring_, answer);
      if (tag == kWakeTag) {
        uint64_t count;
        (void)!read(wake_fd_, &count, sizeof(count));
        PollWake();
      } else {
        Answered(static_cast<int>(tag), result, completions);
      }
    }
  }

  void Answered(int number, int result, std::vector<Completion>* completions) {
    Slot& slot = slots_[number];
    const Request& request = slot.request;
    const bool reads = request.operation == Operation::kRead;
    const Progress progress =
        reads ? AfterRead(result, Bytes(request.memory, request.length_bytes), &slot.done_bytes)
              : AfterWrite(result, request.length_bytes, &slot.done_bytes);
    if (progress == Progress::kAgain) {
      Prepare(number);
      Enter();
      return;
    }
    completions->push_back({request.cookie, progress == Progress::kFinished
                                                ? absl::OkStatus()
                                                : TransferError(request, result)});
    free_slots_.push_back(number);
  }

  void Await(absl::Duration timeout) {
    // Bounded, as an infinite duration has no timespec.
    __kernel_timespec left = {};
    const int64_t nanoseconds = absl::ToInt64Nanoseconds(std::min(timeout, absl::Hours(1)));
    left.tv_sec = nanoseconds / 1'000'000'000;
    left.tv_nsec = nanoseconds % 1'000'000'000;
    io_uring_cqe* answer = nullptr;
    const int result = io_uring_wait_cqe_timeout(&ring_, &answer, &left);
    CHECK(result == 0 || result == -ETIME || result == -EINTR || result == -EAGAIN);
  }

  const int depth_;
  io_uring ring_ = {};
  bool opened_ = false;
  int wake_fd_ = -1;
  std::atomic<bool> woken_ = false;
  std::vector<Slot> slots_;
  std::vector<int> free_slots_;
  // Requests of no bytes, done at once.
  std::vector<Completion> finished_;
  // For targets without a file; null until there is one.
  std::unique_ptr<IoQueue> calls_;
};

}  // namespace

std::unique_ptr<IoQueue> MakeUringQueue(int depth) {
  auto queue = std::make_unique<UringQueue>(depth);
  if (!queue->Open()) return nullptr;
  return queue;
}

}  // namespace tidemark::storage
