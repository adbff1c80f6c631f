// The scheduler with its real threads, real backups, and somebody who presses every button at
// random. Each job must end exactly once, after a life that the table of states allows (Move checks
// every step of it), and the rest is for the sanitizers.
#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/job/backup_job.h"
#include "engine/job/scheduler.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;

constexpr uint64_t kSize = 4 << 20;
constexpr int kJobs = 24;
constexpr int kPresses = 600;

// Counts endings, on the engine thread.
class Endings final : public JobListener {
 public:
  void OnStatusChange(const JobSnapshot& job) override {
    if (job.status == JobStatus::kNull) ++gone[job.id];
  }
  void OnCompleted(const JobSnapshot& job) override { ++ended[job.id]; }
  void OnCancelled(const JobSnapshot& job) override { ++ended[job.id]; }

  std::map<std::string, int> ended;
  std::map<std::string, int> gone;
};

// Runs `task` on the engine thread, and waits for it.
void OnEngine(Executor* engine, const std::function<void()>& task) {
  std::promise<void> done;
  engine->Post([&task, &done] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

std::unique_ptr<Job> MakeBackup(const std::string& id, bool failing,
                                const copy::CopyWorkers& workers, std::atomic<int>* ends) {
  auto target = std::make_shared<FailingStorage>(std::make_shared<MemoryStorage>(kSize));
  if (failing) {
    target->AddRule({.status = absl::UnknownError("bad"),
                     .verb = storage::Verb::kWrite,
                     .pass_count = 2,
                     .fail_count = 3});
  }
  BackupParts parts;
  parts.source = MemoryStorage::Of(std::string(kSize, 'x'));
  parts.target = target;
  parts.workers = workers;
  parts.clock = &SystemClock();
  CopyHooks hooks;
  hooks.commit = [ends](const bitmap::DirtyBitmap& not_copied) {
    EXPECT_TRUE(not_copied.IsEmpty());
    ++*ends;
  };
  hooks.abort = [ends](const bitmap::DirtyBitmap&) { ++*ends; };
  absl::StatusOr<std::unique_ptr<BackupJob>> job =
      BackupJob::Make({.job_id = id}, std::move(parts), std::move(hooks));
  EXPECT_TRUE(job.ok());
  return *std::move(job);
}

void PressAny(Scheduler* scheduler, const std::string& id, std::mt19937* random) {
  const VerbFamily family = (*random)() % 2 == 0 ? VerbFamily::kJob : VerbFamily::kBlockJob;
  switch ((*random)() % 9) {
    case 0:
      scheduler->Cancel(family, id, (*random)() % 2 == 0).IgnoreError();
      break;
    case 1:
    case 2:
      scheduler->Pause(family, id).IgnoreError();
      break;
    case 3:
    case 4:
    case 5:
      scheduler->Resume(family, id).IgnoreError();
      break;
    case 6:
      scheduler->SetSpeed(family, id, (*random)() % 3 * (8 << 20)).IgnoreError();
      break;
    case 7:
      scheduler->Finalize(family, id).IgnoreError();
      break;
    default:
      EXPECT_LE(scheduler->QueryJobs().size(), static_cast<size_t>(kJobs));
      scheduler->Complete(family, id).IgnoreError();
  }
}

TEST(SchedulerThreads, EveryJobEndsOnceWhateverButtonsArePressed) {
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    Endings endings;
    std::atomic<int> ends = 0;
    WorkerPool io("io", 2);
    WorkerPool guest("guest", 1);
    const copy::CopyWorkers copy_workers{
        .guest = &guest, .io = &io, .watch = std::make_shared<storage::CompletionWatch>()};
    SerialExecutor engine("engine");
    WorkerPool workers("worker", 3);
    SerialExecutor graph_commands("graph");
    std::unique_ptr<Scheduler> scheduler;
    OnEngine(&engine, [&] {
      scheduler = std::make_unique<Scheduler>(
          &engine, &workers,
          [&](const std::vector<std::string>&, Task task) { graph_commands.Post(std::move(task)); },
          &SystemClock(), &endings);
    });
    std::shared_ptr<JobGroup> group;
    for (int i = 0; i < kJobs; ++i) {
      JobOptions options{.id = absl::StrCat("j", i)};
      options.speed = random() % 3 * (16 << 20);
      options.auto_finalize = random() % 2 == 0;
      options.on_target_error = static_cast<ErrorPolicy>(random() % 4);
      if (i % 3 == 0) group = std::make_shared<JobGroup>();
      // The threes of the second half end together.
      const std::shared_ptr<JobGroup> joined = i < kJobs / 2 ? nullptr : group;
      auto job = MakeBackup(options.id, random() % 3 == 0, copy_workers, &ends);
      OnEngine(&engine,
               [&] { ASSERT_TRUE(scheduler->Create(options, std::move(job), joined).ok()); });
    }
    OnEngine(&engine, [&] {
      for (int i = 0; i < kJobs; ++i) scheduler->Start(absl::StrCat("j", i));
    });
    for (int press = 0; press < kPresses; ++press) {
      const std::string id = absl::StrCat("j", random() % kJobs);
      OnEngine(&engine, [&] { PressAny(scheduler.get(), id, &random); });
    }
    std::promise<void> all_ended;
    OnEngine(&engine, [&] { scheduler->CancelAll([&all_ended] { all_ended.set_value(); }); });
    all_ended.get_future().wait();
    OnEngine(&engine, [&] {
      EXPECT_TRUE(scheduler->QueryJobs().empty());
      scheduler.reset();
    });
    EXPECT_EQ(ends, kJobs);
    for (int i = 0; i < kJobs; ++i) {
      EXPECT_EQ(endings.ended[absl::StrCat("j", i)], 1) << i;
      EXPECT_EQ(endings.gone[absl::StrCat("j", i)], 1) << i;
    }
  }
}

}  // namespace
}  // namespace tidemark::job
