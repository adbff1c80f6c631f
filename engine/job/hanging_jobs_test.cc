// Jobs whose disks hang, on few threads: they cost the others nothing. What hangs is held by the
// test, and let go by it.
#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/budget.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/task_shares.h"
#include "engine/job/backup_job.h"
#include "engine/job/create_job.h"
#include "engine/job/scheduler.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::MemoryStorage;
using storage::SlowStorage;

constexpr uint64_t kSizeBytes = 4 << 20;
constexpr int kHanging = 64;
constexpr int kThreads = 160;
// Disks that are slow, how large they are, and the requests to each that stand at one time: so few
// that each has its full share of the threads (task_shares.h).
constexpr int kSlow = 8;
constexpr uint64_t kSlowBytes = 12 << 20;
constexpr int kHeldEach = 4;
constexpr uint64_t kHealthyBytes = 64 << 20;

// Counts what is posted: turns and drains.
class CountingPool final : public WorkerPool {
 public:
  using WorkerPool::WorkerPool;
  void Post(Task task) override {
    ++count;
    WorkerPool::Post(std::move(task));
  }
  std::atomic<int> count = 0;
};

class Endings final : public JobListener {
 public:
  void OnStatusChange(const JobSnapshot& job) override {
    MutexLock lock(&mutex_);
    if (job.status == JobStatus::kConcluded) ended_[job.id] = job.error;
    changed_.SignalAll();
  }
  absl::Status Await(const std::string& id) {
    MutexLock lock(&mutex_);
    while (ended_.count(id) == 0) changed_.Wait(&mutex_);
    return ended_[id];
  }
  size_t count() {
    MutexLock lock(&mutex_);
    return ended_.size();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
};

// Counts the steps of a job.
class SteppedJob final : public Job {
 public:
  SteppedJob(std::unique_ptr<Job> job, std::atomic<int>* steps)
      : job_(std::move(job)), steps_(*steps) {}

  void OnStart(std::function<void()> waker) override { job_->OnStart(std::move(waker)); }
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override {
    ++steps_;
    return job_->Step(budget_bytes);
  }
  bool Drain() override { return job_->Drain(); }
  void OnResume() override { job_->OnResume(); }
  void OnCancel() override { job_->OnCancel(); }
  absl::Status lost() const override { return job_->lost(); }
  absl::optional<IoError> TakeError() override { return job_->TakeError(); }
  Progress progress() const override { return job_->progress(); }
  absl::Status Prepare() override { return job_->Prepare(); }
  void Commit() override { job_->Commit(); }
  void Abort() override { job_->Abort(); }
  void Clean() override { job_->Clean(); }

 private:
  const std::unique_ptr<Job> job_;
  std::atomic<int>& steps_;
};

// At each read of this disk something may happen elsewhere.
class PacingStorage final : public storage::ForwardingStorage {
 public:
  PacingStorage(std::shared_ptr<storage::Storage> next, std::function<void()> on_read)
      : ForwardingStorage(std::move(next)), on_read_(std::move(on_read)) {}
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    on_read_();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }

 private:
  const std::function<void()> on_read_;
};

class HangingJobsTest : public ::testing::Test {
 protected:
  HangingJobsTest() {
    OnEngine([this] {
      scheduler_ = std::make_unique<Scheduler>(
          &engine_, &workers_,
          [this](const std::vector<std::string>&, Task task) { commands_.Post(std::move(task)); },
          &SystemClock(), &endings_);
    });
  }
  ~HangingJobsTest() override {
    std::promise<void> ended;
    OnEngine([&] { scheduler_->CancelAll([&ended] { ended.set_value(); }); });
    for (const auto& disk : disks_) disk->Release();
    ended.get_future().wait();
    OnEngine([this] { scheduler_.reset(); });
  }

  void OnEngine(const std::function<void()>& task) {
    std::promise<void> done;
    engine_.Post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }

  std::shared_ptr<SlowStorage> MakeDisk(char fill, uint64_t size_bytes = kSizeBytes) {
    disks_.push_back(
        std::make_shared<SlowStorage>(MemoryStorage::Of(std::string(size_bytes, fill))));
    return disks_.back();
  }

  // Its steps are counted in `steps`, if that is not null.
  void StartBackup(const std::string& id, std::shared_ptr<storage::Storage> source,
                   std::shared_ptr<storage::Storage> target, std::atomic<int>* steps = nullptr) {
    owners_.push_back(shares_.MakeOwner());
    owners_.push_back(shares_.MakeOwner());
    BackupParts parts;
    parts.source = std::move(source);
    parts.target = std::move(target);
    parts.workers = {.guest = &guest_,
                     .io = owners_.back().get(),
                     .source_io = owners_[owners_.size() - 2].get(),
                     .watch = watch_,
                     .memory = memory_};
    parts.clock = &SystemClock();
    absl::StatusOr<std::unique_ptr<BackupJob>> job =
        BackupJob::Make({.job_id = id}, std::move(parts), {});
    ASSERT_TRUE(job.ok());
    if (steps == nullptr) return Start({.id = id}, *std::move(job));
    Start({.id = id}, std::make_unique<SteppedJob>(*std::move(job), steps));
  }
  void Start(const JobOptions& options, std::unique_ptr<Job> job) {
    OnEngine([&] {
      ASSERT_TRUE(scheduler_->Create(options, std::move(job)).ok());
      scheduler_->Start(options.id);
    });
  }
  // Backups "hangs0" and so on to targets that hold `verb` (absent: everything).
  std::vector<std::shared_ptr<SlowStorage>> StartHanging(
      int count, absl::optional<storage::Verb> verb = absl::nullopt) {
    std::vector<std::shared_ptr<SlowStorage>> targets;
    for (int i = 0; i < count; ++i) {
      targets.push_back(MakeDisk('t'));
      targets.back()->Hold(verb);
      StartBackup(absl::StrCat("hangs", i), MakeDisk('s'), targets.back());
    }
    return targets;
  }
  // The same for slow disks; waits until all that can be done without them is done.
  std::vector<std::shared_ptr<SlowStorage>> StartSlow() {
    std::vector<std::shared_ptr<SlowStorage>> targets;
    for (int i = 0; i < kSlow; ++i) {
      targets.push_back(MakeDisk('t', kSlowBytes));
      targets.back()->Hold(storage::Verb::kWrite);
      StartBackup(absl::StrCat("slow", i), MakeDisk('s', kSlowBytes), targets.back(), &slow_steps_);
    }
    for (const auto& target : targets) target->AwaitHeld(kHeldEach);
    CountTurns();
    return targets;
  }
  void ExpectAnotherSucceeds(const std::string& id = "healthy") {
    StartBackup(id, MakeDisk('a'), MakeDisk('b'));
    EXPECT_EQ(endings_.Await(id), absl::OkStatus());
  }

  // How many turns are begun while nothing can be done but wait.
  int CountTurns() {
    int count = -1;
    // A turn that is still on its way is over when the workers have been through others.
    while (std::exchange(count, workers_.count.load()) != workers_.count.load() || count < 0) {
      OnEngine([] {});
    }
    const int before = workers_.count;
    for (int i = 0; i < 1000; ++i) OnEngine([] {});
    return workers_.count - before;
  }

  std::atomic<int> slow_steps_ = 0;
  std::atomic<int> healthy_steps_ = 0;
  Budget nothing_{1};
  // For the copies that are started; null: no limit.
  Budget* memory_ = nullptr;
  Endings endings_;
  std::vector<std::shared_ptr<SlowStorage>> disks_;
  std::shared_ptr<storage::CompletionWatch> watch_ = std::make_shared<storage::CompletionWatch>();
  // The threads go first: a task that has told its end may not have given its place back yet.
  TaskShares shares_{kThreads, 4, [this](Task task) { threads_.Post(std::move(task)); }};
  WorkerPool threads_{"blocking", kThreads};
  std::vector<std::unique_ptr<Executor>> owners_;
  SerialExecutor engine_{"engine"};
  WorkerPool guest_{"guest", 2};
  CountingPool workers_{"worker", 2};
  SerialExecutor commands_{"commands"};
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(HangingJobsTest, TargetsThatHangHoldUpNobodyElse) {
  const auto targets = StartHanging(kHanging);
  for (const auto& target : targets) target->AwaitHeld(1);
  ExpectAnotherSucceeds();
  EXPECT_EQ(endings_.count(), 1u);
  for (const auto& target : targets) target->Release();
  for (int i = 0; i < kHanging; ++i) {
    EXPECT_EQ(endings_.Await(absl::StrCat("hangs", i)), absl::OkStatus());
  }
}

TEST_F(HangingJobsTest, SourcesThatHangHoldUpNobodyElse) {
  std::vector<std::shared_ptr<SlowStorage>> sources;
  for (int i = 0; i < kHanging; ++i) {
    sources.push_back(MakeDisk('s'));
    sources.back()->Hold();
    StartBackup(absl::StrCat("hangs", i), sources.back(), MakeDisk('t'));
  }
  for (const auto& source : sources) source->AwaitHeld(1);
  ExpectAnotherSucceeds();
  EXPECT_EQ(endings_.count(), 1u);
}

TEST_F(HangingJobsTest, JobsThatHangTakeNoTurns) {
  const auto targets = StartHanging(8, storage::Verb::kWrite);
  // All that can be done until something is let go: the reads end, the writes stand.
  for (const auto& target : targets) target->AwaitHeld(4);
  EXPECT_LE(CountTurns(), 8);
}

// A disk that takes long for each request costs the steps of its own requests, and no worker waits
// for it: another makes all of its way while theirs are outstanding.
TEST_F(HangingJobsTest, SlowDisksTakeNoStepsFromAnotherWhileTheirRequestsAreOutstanding) {
  const auto targets = StartSlow();
  const int before = slow_steps_;
  StartBackup("healthy", MakeDisk('a', kHealthyBytes), MakeDisk('b', kHealthyBytes),
              &healthy_steps_);
  EXPECT_EQ(endings_.Await("healthy"), absl::OkStatus());
  EXPECT_GE(healthy_steps_, 4) << "too few to say anything";
  EXPECT_LE(slow_steps_ - before, 10 * kSlow);
  EXPECT_EQ(endings_.count(), 1u);
  for (const auto& target : targets) EXPECT_EQ(target->held_count(), kHeldEach);
  for (const auto& target : targets) target->Release();
  for (int i = 0; i < kSlow; ++i) {
    EXPECT_EQ(endings_.Await(absl::StrCat("slow", i)), absl::OkStatus());
  }
}

TEST_F(HangingJobsTest, SlowDisksThatAnswerNowAndThenTakeAFewStepsForEachAnswer) {
  std::atomic<int> answers = 0;
  const auto targets = StartSlow();
  const int before = slow_steps_;
  // For each request of the healthy disk one of the slow ones answers one.
  const auto source = std::make_shared<PacingStorage>(MakeDisk('a', kHealthyBytes),
                                                      [&] { targets[answers++ % kSlow]->LetGo(); });
  StartBackup("healthy", source, MakeDisk('b', kHealthyBytes), &healthy_steps_);
  EXPECT_EQ(endings_.Await("healthy"), absl::OkStatus());
  EXPECT_GE(answers, kSlow) << "each has answered";
  // An answer is a step, and one more if something else is told in between.
  EXPECT_LE(slow_steps_ - before, 3 * answers + kSlow);
  EXPECT_EQ(endings_.count(), 1u) << "all others are still at it";
  for (const auto& target : targets) target->Release();
  for (int i = 0; i < kSlow; ++i) {
    EXPECT_EQ(endings_.Await(absl::StrCat("slow", i)), absl::OkStatus());
  }
}

TEST_F(HangingJobsTest, NorDoThoseThatHaveNoMemoryToGoOn) {
  memory_ = &nothing_;
  const auto targets = StartHanging(8, storage::Verb::kWrite);
  for (const auto& target : targets) target->AwaitHeld(1);
  EXPECT_LE(CountTurns(), 8);
  for (const auto& target : targets) target->Release();
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(endings_.Await(absl::StrCat("hangs", i)), absl::OkStatus());
  }
}

TEST_F(HangingJobsTest, JobsThatAreCancelledWhileTheyHangHoldUpNobodyElse) {
  const auto targets = StartHanging(kHanging);
  for (const auto& target : targets) target->AwaitHeld(1);
  OnEngine([this] {
    for (int i = 0; i < kHanging; ++i) {
      const std::string id = absl::StrCat("hangs", i);
      ASSERT_TRUE(i % 2 == 0 ? scheduler_->Cancel(VerbFamily::kJob, id, true).ok()
                             : scheduler_->Pause(VerbFamily::kJob, id).ok());
    }
  });
  ExpectAnotherSucceeds();
  EXPECT_EQ(endings_.count(), 1u);
}

TEST_F(HangingJobsTest, ImagesWhoseCreationHangsHoldUpNoBackup) {
  std::promise<void> let_go;
  const std::shared_future<void> gate = let_go.get_future().share();
  std::atomic<int> begun = 0;
  for (int i = 0; i < kHanging; ++i) {
    const JobOptions options{
        .id = absl::StrCat("create", i), .type = JobType::kCreate, .auto_dismiss = false};
    Start(options, std::make_unique<CreateJob>(
                       [&begun, gate](const std::atomic<bool>&) {
                         ++begun;
                         gate.wait();
                         return absl::OkStatus();
                       },
                       nullptr, shares_.MakeOwner()));
  }
  while (begun < kHanging) OnEngine([] {});
  ExpectAnotherSucceeds();
  EXPECT_EQ(endings_.count(), 1u);
  let_go.set_value();
  for (int i = 0; i < kHanging; ++i) {
    EXPECT_EQ(endings_.Await(absl::StrCat("create", i)), absl::OkStatus());
  }
}

// By a ring where the machine has one, with nobody who waits for it but the watch.
TEST_F(HangingJobsTest, ABackupFromFileToFileIsCompleteWithoutAStepThatWaits) {
  const std::string from = storage::TestPath("from"), to = storage::TestPath("to");
  std::vector<std::shared_ptr<storage::FileStorage>> files;
  std::string content(24 << 20, '\0');
  for (size_t at = 0; at < content.size(); ++at) content[at] = static_cast<char>(at * at >> 13);
  for (const std::string& path : {from, to}) {
    ASSERT_TRUE(storage::CreateFile(path, content.size() + 512, storage::Preallocation::kOff).ok());
    files.push_back(*storage::OpenFile(path, {}));
  }
  const auto bytes = [](std::string& text) {
    return storage::Bytes(reinterpret_cast<std::byte*>(text.data()), text.size());
  };
  ASSERT_TRUE(files[0]->Write(0, bytes(content), {}).ok());
  StartBackup("files", files[0], files[1]);
  EXPECT_EQ(endings_.Await("files"), absl::OkStatus());
  std::string copied(content.size(), '?');
  ASSERT_TRUE(files[1]->Read(0, bytes(copied)).ok());
  EXPECT_TRUE(copied == content);
}

// What was read, and what is known to be zero, is given free before the target is asked; what is
// claimed and not read yet is not kept waiting for it.
TEST_F(HangingJobsTest, ATargetThatHangsKeepsNoGuestFromItsClusters) {
  std::string content(kSizeBytes, 's');
  content.replace(0, 1 << 20, 1 << 20, '\0');
  for (const storage::Verb verb : {storage::Verb::kWriteZeroes, storage::Verb::kWrite}) {
    const auto target = MakeDisk('t');
    target->Hold(verb);
    owners_.push_back(shares_.MakeOwner());
    copy::CopyOptions options;
    options.detect_zeroes = true;
    auto to_copy = std::make_unique<bitmap::DirtyBitmap>(kSizeBytes, options.cluster_bytes);
    to_copy->SetAll();
    const std::shared_ptr<copy::BlockCopy> copy = copy::BlockCopy::Make(
        MemoryStorage::Of(content), target, std::move(to_copy), options,
        {.guest = &guest_, .io = owners_.back().get(), .watch = watch_}, &SystemClock());
    copy->set_waker([] {});
    const auto step_until = [&](const std::function<bool()>& done) {
      while (!done()) ASSERT_TRUE(copy->Step(~uint64_t{0}).ok());
    };
    step_until([&] { return target->held_count() > 0; });
    for (uint64_t at = 0; at < kSizeBytes; at += options.cluster_bytes) {
      std::future<absl::Status> guest = std::async(std::launch::async, [&] {
        return copy->Capture({at, options.cluster_bytes});
      });
      step_until(
          [&] { return guest.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
      EXPECT_TRUE(copy->lost().ok());
    }
    target->Release();
    copy->Finish();
  }
}

}  // namespace
}  // namespace tidemark::job
