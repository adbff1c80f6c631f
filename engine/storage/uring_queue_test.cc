// A kernel that refuses: whatever it answers when it is asked to take requests or to wait, they
// end.
#include "engine/storage/uring_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/limits.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

using Operation = IoQueue::Operation;

constexpr uint64_t kBlock = 4096;
constexpr int kDepth = 8;

// What the kernel is to answer instead of obeying; 0 obeys. Changed by the thread of the queue.
struct Mood {
  int submit_errno = 0;
  int submit_count = -1;  // So many refusals; -1 for ever.
  int wait_errno = 0;
  int answer_errno = 0;  // Of what was taken.
  int put_off = 0;
  int refusals = 0;
  int taken = 0;
};

class MoodyEntry final : public RingEntry {
 public:
  explicit MoodyEntry(Mood* mood) : mood_(*mood) {}

  int Submit(io_uring* ring) override {
    if (mood_.submit_errno != 0 && mood_.submit_count != 0) {
      if (mood_.submit_count > 0) --mood_.submit_count;
      ++mood_.refusals;
      return -mood_.submit_errno;
    }
    const int taken = mood_.answer_errno == 0 ? RingEntry::Submit(ring) : SubmitAndSpoil(ring);
    if (taken > 0) mood_.taken += taken;
    return taken;
  }
  int Wait(io_uring* ring, __kernel_timespec* timeout) override {
    return mood_.wait_errno != 0 ? -mood_.wait_errno : RingEntry::Wait(ring, timeout);
  }

 private:
  // Waits for the answers and makes them bad. The poll by which the queue hears its bell has none.
  int SubmitAndSpoil(io_uring* ring) {
    const unsigned last = (ring->sq.sqe_tail - 1) & *ring->sq.kring_mask;
    const bool is_poll = ring->sq.sqes[last].opcode == IORING_OP_POLL_ADD;
    // Answers that nobody has seen yet lie there beside the one that is waited for.
    const unsigned answers_before = io_uring_cq_ready(ring);
    const int taken =
        is_poll ? io_uring_submit(ring) : io_uring_submit_and_wait(ring, answers_before + 1);
    unsigned head;
    io_uring_cqe* answer;
    io_uring_for_each_cqe(ring, head, answer) {
      if (answer->user_data >= kDepth) continue;         // Not of a request.
      if (answer->res == -mood_.answer_errno) continue;  // Spoiled already, and not seen yet.
      answer->res = -mood_.answer_errno;
      ++mood_.put_off;
    }
    return taken;
  }

  Mood& mood_;
};

class MoodyKernel : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = TestPath("refused");
    ASSERT_EQ(CreateFile(path, kDepth * kBlock, Preallocation::kOff), absl::OkStatus());
    file_ = *OpenFile(path, {});
    queue_ = Make();
    if (queue_ == nullptr) GTEST_SKIP() << "the kernel forbids io_uring here";
  }
  std::unique_ptr<IoQueue> Make() {
    return MakeUringQueueWith(kDepth, std::make_unique<MoodyEntry>(&mood_));
  }
  // Block `number`, filled with a letter of its own.
  void Write(int number) {
    texts_[number].assign(kBlock, static_cast<char>('a' + number));
    Submit(Operation::kWrite, number);
  }
  void Submit(Operation operation, int number) {
    queue_->Submit({operation, file_->target(), number * kBlock,
                    reinterpret_cast<std::byte*>(texts_[number].data()), kBlock,
                    static_cast<uint64_t>(number)});
  }
  // Ends everything; what ended well.
  std::map<uint64_t, absl::Status> ReapAll() {
    std::vector<IoQueue::Completion> completions;
    while (queue_->in_flight() > 0) queue_->Reap(absl::InfiniteDuration(), &completions);
    std::map<uint64_t, absl::Status> statuses;
    for (const auto& completion : completions) {
      EXPECT_TRUE(statuses.emplace(completion.cookie, completion.status).second);
    }
    return statuses;
  }
  void ExpectAllWritten() {
    const auto statuses = ReapAll();
    EXPECT_EQ(statuses.size(), static_cast<size_t>(kDepth));
    for (const auto& [cookie, status] : statuses) EXPECT_EQ(status, absl::OkStatus()) << cookie;
    std::string text(kDepth * kBlock, '?');
    ASSERT_EQ(file_->Read(0, Bytes(reinterpret_cast<std::byte*>(text.data()), text.size())),
              absl::OkStatus());
    for (int i = 0; i < kDepth; ++i) {
      EXPECT_TRUE(text.substr(i * kBlock, kBlock) ==
                  std::string(kBlock, static_cast<char>('a' + i)))
          << i;
    }
  }

  Mood mood_;
  std::shared_ptr<FileStorage> file_;
  std::map<int, std::string> texts_;
  std::unique_ptr<IoQueue> queue_;
};

class RefusingKernel : public MoodyKernel, public testing::WithParamInterface<int> {};

TEST_P(RefusingKernel, ThatTakesNothingAnyMoreStopsNoRequest) {
  mood_.submit_errno = GetParam();
  for (int i = 0; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
  // It is asked a few times for each, not for ever.
  EXPECT_GE(mood_.refusals, kDepth);
  EXPECT_LE(mood_.refusals, 4 * kDepth * kRingRefusalsMax);
}

TEST_P(RefusingKernel, ThatStopsHalfwayStopsNoRequest) {
  for (int i = 0; i < kDepth / 2; ++i) Write(i);
  mood_.submit_errno = mood_.wait_errno = GetParam();
  for (int i = kDepth / 2; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
}

TEST_P(RefusingKernel, ThatLetsNobodyWaitStillAnswers) {
  mood_.wait_errno = GetParam();
  for (int i = 0; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
}

TEST_P(RefusingKernel, IsAskedAgainAndObeysAgain) {
  mood_.submit_errno = GetParam();
  for (int i = 0; i < kDepth; ++i) Write(i);
  ReapAll();
  mood_.submit_errno = 0;
  mood_.taken = 0;
  for (int i = 0; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
  EXPECT_GE(mood_.taken, kDepth);
}

TEST_P(RefusingKernel, DoesNotKeepAWakeFromReachingASleeper) {
  mood_.submit_errno = mood_.wait_errno = GetParam();
  Write(0);
  ReapAll();
  std::vector<IoQueue::Completion> completions;
  for (int i = 0; i < 3; ++i) {
    std::thread waker([&] { queue_->Wake(); });
    queue_->Reap(absl::InfiniteDuration(), &completions);
    waker.join();
  }
  EXPECT_TRUE(completions.empty());
}

TEST_P(RefusingKernel, FromTheBeginningMakesNoRing) {
  mood_.submit_errno = GetParam();
  EXPECT_EQ(Make(), nullptr);
}

TEST_P(RefusingKernel, IsNotWaitedForByTheDestructor) {
  mood_.submit_errno = mood_.wait_errno = GetParam();
  for (int i = 0; i < kDepth; ++i) Write(i);
  queue_ = nullptr;
}

INSTANTIATE_TEST_SUITE_P(Errors, RefusingKernel,
                         testing::Values(EINTR, EAGAIN, EBUSY, ENOMEM, EPERM, EBADF, EINVAL, EFAULT,
                                         ENXIO, EOPNOTSUPP, EBADFD, ENOSYS),
                         [](const auto& info) { return std::string(strerrorname_np(info.param)); });

TEST_F(MoodyKernel, ForAMomentIsAskedUntilItObeys) {
  mood_.taken = 0;
  mood_.submit_errno = EAGAIN;
  mood_.submit_count = kRingRefusalsMax - 1;
  for (int i = 0; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
  EXPECT_EQ(mood_.refusals, kRingRefusalsMax - 1);
  EXPECT_EQ(mood_.taken, kDepth);  // By the ring, every one.
}

// As of a file that cannot be read without waiting: the ring would be asked for ever.
TEST_F(MoodyKernel, ThatPutsEveryRequestOffStopsNone) {
  mood_.answer_errno = EAGAIN;
  for (int i = 0; i < kDepth; ++i) Write(i);
  ExpectAllWritten();
  EXPECT_EQ(mood_.put_off, kDepth);  // Each once.
}

TEST_F(MoodyKernel, ThatInterruptsARequestForEverFailsIt) {
  mood_.answer_errno = EINTR;
  Write(0);
  EXPECT_EQ(DetailsOf(ReapAll().at(0))->reason, Reason::kIoError);
  EXPECT_EQ(mood_.put_off, kIdleTransfersMax + 1);
}

}  // namespace
}  // namespace tidemark::storage
