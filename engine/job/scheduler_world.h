// A scheduler with everything around it in the hands of a test: one thread, a clock that stands
// still, a job that does as it is told, and a listener that writes a diary.
#ifndef ENGINE_JOB_SCHEDULER_WORLD_H_
#define ENGINE_JOB_SCHEDULER_WORLD_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/manual_executor.h"
#include "engine/job/job.h"
#include "engine/job/job_listener.h"
#include "engine/job/scheduler.h"

namespace tidemark::job {

// What a ScriptedJob is made of, kept by the test when the job is gone.
struct Script {
  // Taken from the front, one for each step; when empty, `otherwise`.
  std::deque<absl::StatusOr<StepResult>> steps;
  StepResult otherwise{.next = StepResult::Next::kWait};
  absl::Status prepare;
  absl::Status lost;
  absl::optional<IoError> error;  // What TakeError takes.
  Progress progress;
  // What was called, in order: "step", "drain", "resume", "cancel", "prepare", "commit", "abort",
  // "clean", "ending complete", "ending stop".
  std::vector<std::string> calls;
  std::vector<uint64_t> budgets;
  std::function<void()> waker;
  std::function<void()> during_step;
  bool can_change = false;
  int drains = 0;  // So often Drain says that something is in flight.
  // What HoldGuests does, if it is to hold anybody; "hold" and "let go" are noted in `calls`.
  bool holds_guests = false;
  absl::Status hold;
  absl::Status last_step;
  std::function<void()> during_last_step;
};

class ScriptedHold final : public GuestHold {
 public:
  explicit ScriptedHold(Script* script) : script_(script) { script_->calls.push_back("hold"); }
  ~ScriptedHold() override { script_->calls.push_back("let go"); }

 private:
  Script* const script_;
};

class ScriptedJob final : public Job {
 public:
  explicit ScriptedJob(Script* script) : script_(script) {}
  ~ScriptedJob() override { script_->calls.push_back("destroyed"); }

  void OnStart(std::function<void()> waker) override { script_->waker = std::move(waker); }
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override {
    script_->calls.push_back("step");
    script_->budgets.push_back(budget_bytes);
    if (script_->during_step) script_->during_step();
    if (script_->steps.empty()) return script_->otherwise;
    absl::StatusOr<StepResult> result = std::move(script_->steps.front());
    script_->steps.pop_front();
    if (result.ok()) script_->progress.current_bytes += result->moved_bytes;
    return result;
  }
  bool Drain() override {
    script_->calls.push_back("drain");
    return script_->drains-- <= 0;
  }
  void OnResume() override { script_->calls.push_back("resume"); }
  void OnCancel() override { script_->calls.push_back("cancel"); }
  absl::Status lost() const override { return script_->lost; }
  absl::optional<IoError> TakeError() override {
    return std::exchange(script_->error, absl::nullopt);
  }
  void OnEnding(Ending ending) override {
    script_->calls.push_back(ending == Ending::kComplete ? "ending complete" : "ending stop");
    script_->otherwise.next = StepResult::Next::kDone;
  }
  absl::Status Change(CopyMode mode) override {
    return script_->can_change ? absl::OkStatus() : Job::Change(mode);
  }
  Progress progress() const override { return script_->progress; }
  absl::StatusOr<std::unique_ptr<GuestHold>> HoldGuests(absl::Duration) override {
    if (!script_->hold.ok()) return script_->hold;
    if (!script_->holds_guests) return nullptr;
    return std::make_unique<ScriptedHold>(script_);
  }
  absl::Status LastStep() override {
    script_->calls.push_back("last step");
    if (script_->during_last_step) script_->during_last_step();
    return script_->last_step;
  }
  absl::Status Prepare() override {
    script_->calls.push_back("prepare");
    return script_->prepare;
  }
  void Commit() override { script_->calls.push_back("commit"); }
  void Abort() override { script_->calls.push_back("abort"); }
  void Clean() override { script_->calls.push_back("clean"); }

 private:
  Script* const script_;
};

// Writes "id status", "id COMPLETED", "id COMPLETED(error)", "id CANCELLED", "id READY",
// "id PENDING", "id ERROR read report".
class Diary final : public JobListener {
 public:
  void OnStatusChange(const JobSnapshot& job) override {
    Note(job, NameOf(job.status));
    last[job.id] = job;
  }
  void OnCompleted(const JobSnapshot& job) override {
    Note(job, job.error.ok() ? "COMPLETED" : absl::StrCat("COMPLETED(", job.error.message(), ")"));
  }
  void OnCancelled(const JobSnapshot& job) override { Note(job, "CANCELLED"); }
  void OnReady(const JobSnapshot& job) override { Note(job, "READY"); }
  void OnPending(const JobSnapshot& job) override { Note(job, "PENDING"); }
  void OnError(const JobSnapshot& job, bool is_read, ErrorAction action) override {
    constexpr absl::string_view kActions[] = {"report", "ignore", "stop"};
    Note(job,
         absl::StrCat("ERROR ", is_read ? "read " : "write ", kActions[static_cast<int>(action)]));
    ++errors;
  }
  void OnProgress(const JobSnapshot&) override { ++progress_reports; }

  // What was written since the last call, as one line.
  std::string Take() { return absl::StrJoin(std::exchange(lines, {}), ", "); }

  std::vector<std::string> lines;
  std::map<std::string, JobSnapshot> last;
  int errors = 0;
  int progress_reports = 0;

 private:
  void Note(const JobSnapshot& job, absl::string_view what) {
    lines.push_back(absl::StrCat(job.id, " ", what));
  }
};

class SchedulerWorld {
 public:
  // Creates and starts a job that follows `scripts[id]`.
  absl::Status Launch(JobOptions options, std::shared_ptr<JobGroup> group = nullptr) {
    const std::string id = options.id;
    const absl::Status status =
        scheduler.Create(options, std::make_unique<ScriptedJob>(&scripts[id]), std::move(group));
    if (status.ok()) scheduler.Start(id);
    return status;
  }

  // Runs everything that can run without time passing.
  void Settle() {
    for (int i = 0; i < 100000; ++i) {
      // Not "||": every thread gets its turn.
      const bool engine_ran = engine.RunOne();
      const bool workers_ran = workers.RunOne();
      const bool graph_ran = graph_commands.RunOne();
      if (!engine_ran && !workers_ran && !graph_ran) return;
    }
    CHECK(false);  // A busy loop.
  }

  // Lets time pass, timer by timer.
  void Pass(absl::Duration duration) {
    const absl::Duration end = clock.Elapsed() + duration;
    Settle();
    while (engine.NextDue() <= end) {
      clock.Advance(std::max(engine.NextDue() - clock.Elapsed(), absl::ZeroDuration()));
      Settle();
    }
    clock.Advance(end - clock.Elapsed());
    Settle();
  }

  JobStatus StatusOf(const std::string& id) { return scheduler.Find(id)->status; }

  std::map<std::string, Script> scripts;  // Outlives the jobs, which tasks may still hold.
  ManualClock clock;
  ManualExecutor engine{&clock};
  ManualExecutor workers{&clock};
  ManualExecutor graph_commands{&clock};
  Diary diary;
  Scheduler scheduler{
      &engine, &workers,
      [this](const std::vector<std::string>&, Task task) { graph_commands.Post(std::move(task)); },
      &clock, &diary};
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_SCHEDULER_WORLD_H_
