#include "engine/storage/io_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "engine/base/error.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"
#include "engine/storage/storage_target.h"
#include "engine/storage/uring_queue.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

using Operation = IoQueue::Operation;

struct Kind {
  const char* name;
  std::unique_ptr<IoQueue> (*make)(int depth);
};

// A file as the kernel knows it; calls would be a mistake.
class FileTarget final : public IoTarget {
 public:
  explicit FileTarget(int buffered_fd, int direct_fd = -1) {
    file_.buffered_fd = buffered_fd;
    file_.direct_fd = direct_fd;
  }
  const DataFile* file() const override { return &file_; }
  absl::Status Read(uint64_t, Bytes) override { return absl::InternalError("called"); }
  absl::Status Write(uint64_t, ConstBytes) override { return absl::InternalError("called"); }

 private:
  DataFile file_;
};

class IoQueueTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ASSERT_GE(fd_, 0);
    file_ = std::make_unique<FileTarget>(fd_);
    if (Make(1) == nullptr) GTEST_SKIP() << "the kernel forbids io_uring here";
  }
  void TearDown() override { close(fd_); }

  std::unique_ptr<IoQueue> Make(int depth) { return GetParam().make(depth); }

  IoQueue::Request Ask(Operation operation, uint64_t offset_bytes, void* memory,
                       size_t length_bytes, uint64_t cookie = 0) {
    return {operation,    file_.get(), offset_bytes, static_cast<std::byte*>(memory),
            length_bytes, cookie};
  }

  // All that is in flight.
  std::map<uint64_t, absl::Status> ReapAll(IoQueue& queue) {
    std::vector<IoQueue::Completion> completions;
    while (queue.in_flight() > 0) queue.Reap(absl::InfiniteDuration(), &completions);
    std::map<uint64_t, absl::Status> statuses;
    for (const IoQueue::Completion& completion : completions) {
      EXPECT_TRUE(statuses.emplace(completion.cookie, completion.status).second);
    }
    return statuses;
  }

  const std::string path_ = TestPath("queued");
  int fd_ = -1;
  std::unique_ptr<FileTarget> file_;
};

TEST_P(IoQueueTest, WritesAndReadsBackAtFullDepth) {
  constexpr int kDepth = 16;
  constexpr size_t kPieceBytes = 10000;
  const std::unique_ptr<IoQueue> queue = Make(kDepth);
  EXPECT_EQ(queue->depth(), kDepth);
  std::vector<std::string> pieces;
  for (int i = 0; i < kDepth; ++i) pieces.emplace_back(kPieceBytes, static_cast<char>('a' + i));
  for (int i = 0; i < kDepth; ++i) {
    queue->Submit(Ask(Operation::kWrite, i * kPieceBytes, pieces[i].data(), kPieceBytes, 100 + i));
  }
  EXPECT_EQ(queue->in_flight(), kDepth);
  const auto written = ReapAll(*queue);
  ASSERT_EQ(written.size(), static_cast<size_t>(kDepth));
  for (const auto& [cookie, status] : written) EXPECT_EQ(status, absl::OkStatus()) << cookie;

  std::vector<std::string> copies(kDepth, std::string(kPieceBytes, '?'));
  for (int i = 0; i < kDepth; ++i) {
    queue->Submit(Ask(Operation::kRead, i * kPieceBytes, copies[i].data(), kPieceBytes, i));
  }
  for (const auto& [cookie, status] : ReapAll(*queue)) EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(copies, pieces);
}

TEST_P(IoQueueTest, ReadsZeroesPastTheEnd) {
  ASSERT_EQ(pwrite(fd_, "12345", 5, 0), 5);
  std::string text(20, '?');
  const std::unique_ptr<IoQueue> queue = Make(2);
  queue->Submit(Ask(Operation::kRead, 3, text.data(), 10, 1));
  queue->Submit(Ask(Operation::kRead, 1000, &text[10], 10, 2));
  const auto statuses = ReapAll(*queue);
  EXPECT_EQ(statuses.at(1), absl::OkStatus());
  EXPECT_EQ(statuses.at(2), absl::OkStatus());
  EXPECT_EQ(text, "45" + std::string(18, '\0'));
}

TEST_P(IoQueueTest, DirectReadsMeetARaggedEnd) {
  const int direct_fd = open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (direct_fd < 0) GTEST_SKIP() << "the file system has no direct I/O";
  ASSERT_EQ(pwrite(fd_, std::string(5000, 'x').data(), 5000, 0), 5000);
  AlignedBuffer buffer(16384);
  std::memset(buffer.data(), '?', buffer.size());
  const std::unique_ptr<IoQueue> queue = Make(1);
  IoQueue::Request request = Ask(Operation::kRead, 0, buffer.data(), buffer.size());
  FileTarget file(fd_, direct_fd);
  request.target = &file;
  request.direct = true;
  queue->Submit(request);
  EXPECT_EQ(ReapAll(*queue).at(0), absl::OkStatus());
  const std::string text(reinterpret_cast<const char*>(buffer.data()), buffer.size());
  EXPECT_TRUE(text == std::string(5000, 'x') + std::string(16384 - 5000, '\0'));
  close(direct_fd);
}

TEST_P(IoQueueTest, ReportsWhatTheKernelRefuses) {
  std::string text(10, 'x');
  const std::unique_ptr<IoQueue> queue = Make(3);
  IoQueue::Request closed = Ask(Operation::kRead, 0, text.data(), 10, 1);
  FileTarget closed_file(1 << 20);
  closed.target = &closed_file;
  queue->Submit(closed);
  const int full_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full_fd, 0);
  IoQueue::Request full = Ask(Operation::kWrite, 0, text.data(), 10, 2);
  FileTarget full_file(full_fd);
  full.target = &full_file;
  queue->Submit(full);
  queue->Submit(Ask(Operation::kWrite, 0, text.data(), 10, 3));
  const auto statuses = ReapAll(*queue);
  EXPECT_EQ(DetailsOf(statuses.at(1))->reason, Reason::kIoError);
  EXPECT_EQ(DetailsOf(statuses.at(2))->reason, Reason::kNoSpace);
  EXPECT_EQ(statuses.at(3), absl::OkStatus());
  close(full_fd);
}

TEST_P(IoQueueTest, RequestsOfNoBytesComplete) {
  const std::unique_ptr<IoQueue> queue = Make(1);
  queue->Submit(Ask(Operation::kWrite, 0, nullptr, 0, 7));
  EXPECT_EQ(queue->in_flight(), 1);
  EXPECT_EQ(ReapAll(*queue).at(7), absl::OkStatus());
}

TEST_P(IoQueueTest, AnEmptyReapReturns) {
  const std::unique_ptr<IoQueue> queue = Make(1);
  std::vector<IoQueue::Completion> completions;
  queue->Reap(absl::ZeroDuration(), &completions);
  queue->Reap(absl::Milliseconds(1), &completions);
  EXPECT_TRUE(completions.empty());
}

TEST_P(IoQueueTest, WakeEndsAReapOnce) {
  const std::unique_ptr<IoQueue> queue = Make(1);
  std::vector<IoQueue::Completion> completions;
  for (int i = 0; i < 3; ++i) {
    std::thread waker([&] { queue->Wake(); });
    // Would last for ever without the wake.
    queue->Reap(absl::InfiniteDuration(), &completions);
    waker.join();
  }
  queue->Wake();
  queue->Wake();
  queue->Reap(absl::InfiniteDuration(), &completions);
  EXPECT_TRUE(completions.empty());
}

TEST_P(IoQueueTest, TargetsWithoutAFileAreCalled) {
  const auto memory = std::make_shared<MemoryStorage>(4096);
  FailingStorage disk(memory);
  disk.AddRule({.status = Error(Reason::kNoSpace, "full"), .range = Range{100, 1}});
  StorageTarget target(&disk);
  std::string text = "12345";
  const std::unique_ptr<IoQueue> queue = Make(4);
  const auto ask = [&](Operation operation, uint64_t offset_bytes, void* to, uint64_t cookie) {
    IoQueue::Request request = Ask(operation, offset_bytes, to, 5, cookie);
    request.target = &target;
    return request;
  };
  queue->Submit(ask(Operation::kWrite, 10, text.data(), 1));
  queue->Submit(ask(Operation::kWrite, 98, text.data(), 2));
  // Beside those of files.
  queue->Submit(Ask(Operation::kWrite, 0, text.data(), 5, 3));
  EXPECT_EQ(queue->in_flight(), 3);
  const auto statuses = ReapAll(*queue);
  EXPECT_EQ(statuses.at(1), absl::OkStatus());
  EXPECT_EQ(DetailsOf(statuses.at(2))->reason, Reason::kNoSpace);
  EXPECT_EQ(statuses.at(3), absl::OkStatus());
  EXPECT_EQ(memory->Contents({10, 5}), "12345");
  std::string copy(5, '?');
  queue->Submit(ask(Operation::kRead, 10, copy.data(), 4));
  EXPECT_EQ(ReapAll(*queue).at(4), absl::OkStatus());
  EXPECT_EQ(copy, "12345");
}

TEST_P(IoQueueTest, ATargetThatIsSlowHoldsNobodyElse) {
  SlowStorage disk(std::make_shared<MemoryStorage>(4096));
  disk.Hold();
  StorageTarget target(&disk);
  std::string text(5, 'x');
  const std::unique_ptr<IoQueue> queue = Make(4);
  IoQueue::Request slow = Ask(Operation::kWrite, 0, text.data(), 5, 1);
  slow.target = &target;
  queue->Submit(slow);
  disk.AwaitHeld(1);
  queue->Submit(Ask(Operation::kWrite, 0, text.data(), 5, 2));
  std::vector<IoQueue::Completion> completions;
  queue->Reap(absl::InfiniteDuration(), &completions);
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].cookie, 2u);
  // A Wake reaches who waits for it.
  queue->Wake();
  queue->Reap(absl::InfiniteDuration(), &completions);
  EXPECT_EQ(completions.size(), 1u);
  disk.Release();
  EXPECT_EQ(ReapAll(*queue).at(1), absl::OkStatus());
}

TEST_P(IoQueueTest, TheDestructorWaitsForWhatIsInFlight) {
  std::string text(1 << 20, 'z');
  {
    const std::unique_ptr<IoQueue> queue = Make(4);
    for (int i = 0; i < 4; ++i) {
      queue->Submit(Ask(Operation::kWrite, uint64_t(i) << 20, text.data(), text.size()));
    }
  }
  EXPECT_EQ(lseek(fd_, 0, SEEK_END), 4 << 20);
}

TEST_P(IoQueueTest, AgreesWithAStringUnderRandomLoad) {
  constexpr int kDepth = 8;
  constexpr size_t kBlockBytes = 3000;
  constexpr size_t kBlockCount = 64;
  std::mt19937_64 random(7);
  std::string model(kBlockBytes * kBlockCount, '\0');
  const std::unique_ptr<IoQueue> queue = Make(kDepth);
  std::vector<std::string> memory(kDepth, std::string(kBlockBytes, '\0'));
  std::vector<int> idle;
  for (int i = 0; i < kDepth; ++i) idle.push_back(i);
  std::map<uint64_t, size_t> blocks_in_flight;  // Cookie to block: no two in one block.
  std::vector<IoQueue::Completion> completions;
  for (int move = 0; move < 500; ++move) {
    while (idle.empty()) {
      completions.clear();
      queue->Reap(absl::InfiniteDuration(), &completions);
      for (const auto& completion : completions) {
        ASSERT_EQ(completion.status, absl::OkStatus());
        blocks_in_flight.erase(completion.cookie);
        idle.push_back(static_cast<int>(completion.cookie));
      }
    }
    const size_t block = random() % kBlockCount;
    if (std::any_of(blocks_in_flight.begin(), blocks_in_flight.end(),
                    [&](const auto& entry) { return entry.second == block; })) {
      continue;
    }
    const int slot = idle.back();
    idle.pop_back();
    memory[slot].assign(kBlockBytes, static_cast<char>(random()));
    model.replace(block * kBlockBytes, kBlockBytes, memory[slot]);
    blocks_in_flight[slot] = block;
    queue->Submit(
        Ask(Operation::kWrite, block * kBlockBytes, memory[slot].data(), kBlockBytes, slot));
  }
  for (const auto& [cookie, status] : ReapAll(*queue)) ASSERT_EQ(status, absl::OkStatus());
  std::string text(model.size(), '\0');
  queue->Submit(Ask(Operation::kRead, 0, text.data(), text.size()));
  ASSERT_EQ(ReapAll(*queue).at(0), absl::OkStatus());
  EXPECT_TRUE(text == model);
}

INSTANTIATE_TEST_SUITE_P(Both, IoQueueTest,
                         testing::Values(Kind{"Uring", &MakeUringQueue},
                                         Kind{"Threads", &MakeThreadIoQueue},
                                         Kind{"Best", &MakeIoQueue}),
                         [](const auto& info) { return std::string(info.param.name); });

using IoQueueDeathTest = IoQueueTest;

TEST_P(IoQueueDeathTest, ChecksItsDepth) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const std::unique_ptr<IoQueue> queue = Make(1);
        char text[2] = {};
        queue->Submit(Ask(Operation::kWrite, 0, text, 1));
        queue->Submit(Ask(Operation::kWrite, 1, text, 1));
      },
      "CHECK failed");
}

INSTANTIATE_TEST_SUITE_P(Both, IoQueueDeathTest,
                         testing::Values(Kind{"Uring", &MakeUringQueue},
                                         Kind{"Threads", &MakeThreadIoQueue}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tidemark::storage
