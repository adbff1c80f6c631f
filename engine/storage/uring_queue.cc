// One ring per queue. Every request occupies a slot until it is finished: its number travels as
// user_data, so a short transfer is continued from the slot. One more entry of the ring polls an
// eventfd, by which Wake reaches a thread that sleeps in the kernel. Requests to targets that want
// calls are served by a queue of threads beside the ring, which rings the same bell.
//
// The kernel may refuse to take entries: for a moment (it is short of memory, a signal came) or for
// good (it forbids what it allowed when the ring was made). Nothing waits for it to change its
// mind. What it has not taken after a few tries goes to the threads, and its entries in the ring
// become no-ops; the next request asks the kernel again. What the kernel has taken it completes,
// which poll() tells where waiting in the ring is refused.
#include "engine/storage/uring_queue.h"

#include <liburing.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/storage/bell.h"
#include "engine/storage/io_request.h"
#include "engine/storage/limits.h"
#include "engine/storage/thread_queue.h"
#include "engine/storage/transfer.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kWakeTag = ~uint64_t{0};
constexpr uint64_t kNoTag = kWakeTag - 1;  // Of an entry that was withdrawn.

// Worth asking again at once.
bool IsTransient(int error) {
  return error == EINTR || error == EAGAIN || error == EBUSY || error == ENOMEM;
}

class UringQueue final : public IoQueue {
 public:
  UringQueue(int depth, std::unique_ptr<RingEntry> entry)
      : depth_(depth), kernel_(std::move(entry)), slots_(depth) {
    for (int i = depth - 1; i >= 0; --i) free_slots_.push_back(i);
  }

  // False where io_uring cannot be had.
  bool Open() {
    if (!bell_.Open()) return false;
    io_uring_params params = {};
    if (io_uring_queue_init_params(depth_ + 1, &ring_, &params) != 0) return false;
    opened_ = true;
    // Waiting with a timeout needs this; kernels that have it have all else too.
    if ((params.features & IORING_FEAT_EXT_ARG) == 0) return false;
    PollWake();
    return !refused_;
  }

  ~UringQueue() override {
    std::vector<Completion> completions;
    while (in_flight() > 0) Reap(absl::InfiniteDuration(), &completions);
    calls_ = nullptr;
    if (opened_) io_uring_queue_exit(&ring_);
  }

  void Submit(const Request& request) override {
    CHECK(in_flight() < depth_);
    // Nothing to move: the kernel's 0 would look like the end of the file, or a full disk.
    if (request.length_bytes == 0) {
      finished_.push_back({request.cookie, absl::OkStatus()});
      completed_.Ring();
      return;
    }
    if (request.target->file() == nullptr) return Call(request);
    const int number = free_slots_.back();
    free_slots_.pop_back();
    slots_[number] = {request, {}};
    Begin(number);
  }

  void Reap(absl::Duration timeout, std::vector<Completion>* completions) override {
    const size_t size_before = completions->size();
    const absl::Duration deadline = SystemClock().Elapsed() + timeout;
    for (;;) {
      // First, so that what completes from here on rings again.
      completed_.Hear();
      HandleAnswers();
      completions->insert(completions->end(), finished_.begin(), finished_.end());
      finished_.clear();
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

  int completion_fd() override {
    if (completed_.fd() >= 0) return completed_.fd();
    if (!completed_.Open()) return -1;
    // The kernel rings it for every answer.
    if (io_uring_register_eventfd(&ring_, completed_.fd()) != 0) return -1;
    return completed_.fd();
  }

  int in_flight() const override {
    return depth_ - static_cast<int>(free_slots_.size()) + static_cast<int>(finished_.size()) +
           (calls_ == nullptr ? 0 : calls_->in_flight());
  }
  int depth() const override { return depth_; }

 private:
  struct Slot {
    Request request;
    Moved moved;
  };
  struct Answer {
    uint64_t tag;
    int result;
  };
  // An entry in the ring that the kernel has not taken yet; `tag` is its user_data.
  struct Offered {
    io_uring_sqe* entry;
    uint64_t tag;
  };

  // Ends the sleep of a thread in Reap, or the next one. Any thread.
  void Ring() {
    bell_.Ring();
    completed_.Ring();
  }

  void Call(const Request& request) {
    if (calls_ == nullptr) calls_ = MakeThreadQueue(depth_, [this] { Ring(); });
    calls_->Submit(request);
  }

  // What the kernel will not do of the slot's request.
  void CallRest(int number) {
    const Slot& slot = slots_[number];
    Request rest = slot.request;
    rest.offset_bytes += slot.moved.done_bytes;
    rest.memory += slot.moved.done_bytes;
    rest.length_bytes -= slot.moved.done_bytes;
    free_slots_.push_back(number);
    Call(rest);
  }

  // Null while the kernel takes none.
  io_uring_sqe* NextEntry() {
    if (refused_ && !Enter()) return nullptr;
    return io_uring_get_sqe(&ring_);
  }

  // Asks for what is left of the slot's request.
  void Begin(int number) {
    io_uring_sqe* const entry = NextEntry();
    if (entry == nullptr) return CallRest(number);
    const Slot& slot = slots_[number];
    const Request& request = slot.request;
    const size_t done_bytes = slot.moved.done_bytes;
    std::byte* const memory = request.memory + done_bytes;
    const auto length =
        static_cast<unsigned>(std::min(request.length_bytes - done_bytes, kTransferBytesMax));
    const uint64_t offset_bytes = request.offset_bytes + done_bytes;
    if (request.operation == Operation::kRead) {
      io_uring_prep_read(entry, DescriptorOf(request), memory, length, offset_bytes);
    } else {
      io_uring_prep_write(entry, DescriptorOf(request), memory, length, offset_bytes);
    }
    Offer(entry, number);
  }

  void PollWake() {
    io_uring_sqe* const entry = NextEntry();
    wake_polled_ = entry != nullptr;
    if (entry == nullptr) return;
    io_uring_prep_poll_add(entry, bell_.fd(), POLLIN);
    Offer(entry, kWakeTag);
  }

  void Offer(io_uring_sqe* entry, uint64_t tag) {
    entry->user_data = tag;
    offered_.push_back({entry, tag});
    if (!Enter()) Withdraw();
  }

  // Gives the kernel what is offered. False if it does not take all.
  bool Enter() {
    for (int refusals = 0; refusals < kRingRefusalsMax; ++refusals) {
      const int result = kernel_->Submit(&ring_);
      for (int taken = 0; taken < result && !offered_.empty(); ++taken) offered_.pop_front();
      refused_ = !offered_.empty();
      if (!refused_) return true;
      if (result < 0 && !IsTransient(-result)) break;
      // Too many answers waiting are one reason to refuse.
      TakeAnswers();
    }
    return false;
  }

  // Sees to everything offered without the kernel.
  void Withdraw() {
    for (Offered& offered : offered_) {
      const uint64_t tag = std::exchange(offered.tag, kNoTag);
      if (tag == kNoTag) continue;
      io_uring_prep_nop(offered.entry);
      offered.entry->user_data = kNoTag;
      if (tag == kWakeTag) {
        wake_polled_ = false;
      } else {
        CallRest(static_cast<int>(tag));
      }
    }
  }

  void TakeAnswers() {
    io_uring_cqe* answer = nullptr;
    while (io_uring_peek_cqe(&ring_, &answer) == 0) {
      if (answer->user_data != kNoTag) answers_.push_back({answer->user_data, answer->res});
      io_uring_cqe_seen(&ring_, answer);
    }
  }

  void HandleAnswers() {
    for (TakeAnswers(); !answers_.empty(); TakeAnswers()) {
      const Answer answer = answers_.front();
      answers_.pop_front();
      if (answer.tag == kWakeTag) {
        bell_.Hear();
        PollWake();
      } else {
        Answered(static_cast<int>(answer.tag), answer.result);
      }
    }
  }

  void Answered(int number, int result) {
    Slot& slot = slots_[number];
    const Request& request = slot.request;
    // Of a file that the ring cannot wait for: a thread can.
    if (result == -EAGAIN) return CallRest(number);
    const bool reads = request.operation == Operation::kRead;
    const Progress progress =
        reads ? AfterRead(result, Bytes(request.memory, request.length_bytes), &slot.moved)
              : AfterWrite(result, request.length_bytes, &slot.moved);
    if (progress == Progress::kAgain) return Begin(number);
    finished_.push_back({request.cookie, progress == Progress::kFinished
                                             ? absl::OkStatus()
                                             : TransferError(request, result)});
    free_slots_.push_back(number);
  }

  void Await(absl::Duration timeout) {
    if (!wake_polled_) PollWake();
    if (!wake_polled_ || !offered_.empty()) return AwaitOutside(timeout);
    // Bounded, as an infinite duration has no timespec.
    __kernel_timespec left = {};
    const int64_t nanoseconds = absl::ToInt64Nanoseconds(std::min(timeout, absl::Hours(1)));
    left.tv_sec = nanoseconds / 1'000'000'000;
    left.tv_nsec = nanoseconds % 1'000'000'000;
    const int result = kernel_->Wait(&ring_, &left);
    if (result != 0 && result != -ETIME && result != -EINTR) AwaitOutside(timeout);
  }

  // Waits for an answer or the bell without entering the ring.
  void AwaitOutside(absl::Duration timeout) {
    pollfd watched[] = {{ring_.ring_fd, POLLIN, 0}, {bell_.fd(), POLLIN, 0}};
    const absl::Duration bounded = std::min(timeout, absl::Hours(1));
    poll(watched, 2, static_cast<int>(absl::ToInt64Milliseconds(bounded + absl::Milliseconds(1))));
    if ((watched[1].revents & POLLIN) != 0) bell_.Hear();
  }

  const int depth_;
  const std::unique_ptr<RingEntry> kernel_;
  io_uring ring_ = {};
  bool opened_ = false;
  Bell bell_;
  Bell completed_;  // Open if somebody listens.
  std::atomic<bool> woken_ = false;
  // The ring listens for the bell.
  bool wake_polled_ = false;
  std::vector<Slot> slots_;
  std::vector<int> free_slots_;
  std::deque<Offered> offered_;
  // The kernel did not take all of `offered_` when it was last asked.
  bool refused_ = false;
  std::deque<Answer> answers_;
  std::vector<Completion> finished_;
  // For targets without a file, and for what the kernel refuses; null until there is one.
  std::unique_ptr<IoQueue> calls_;
};

}  // namespace

std::unique_ptr<IoQueue> MakeUringQueueWith(int depth, std::unique_ptr<RingEntry> entry) {
  auto queue = std::make_unique<UringQueue>(depth, std::move(entry));
  if (!queue->Open()) return nullptr;
  return queue;
}

std::unique_ptr<IoQueue> MakeUringQueue(int depth) {
  return MakeUringQueueWith(depth, std::make_unique<RingEntry>());
}

}  // namespace tidemark::storage
