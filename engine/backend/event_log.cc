// How it works.
//
// `held_` maps sequence to event. The oldest are dropped when there are too many; `dropped_` is the
// newest sequence lost that way. A JOB_PROGRESS that a newer one replaces is taken out of the
// middle, which loses nobody anything, so it does not move `dropped_`.
//
// Each job that spoke lately has a slot: when its progress and each kind of its errors was last
// told, and what is held back since. What is held back is told by whichever comes first: a timer,
// one for all slots, that runs while anything is held back; another event of the job; or the next
// like event after the period.
//
// Nothing is posted with the lock held: wakes and timers that fall due are collected in an Outbox
// and posted after it is let go.
#include "engine/backend/event_log.h"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/proto_time.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

// Never told yet.
constexpr absl::Duration kNever = -absl::InfiniteDuration();

}  // namespace

class EventLog::Core : public std::enable_shared_from_this<EventLog::Core> {
 public:
  Core(Clock& clock, Executor& executor, EventLogOptions options)
      : clock_(clock), executor_(executor), options_(std::move(options)) {
    MutexLock lock(&mutex_);
    for (EventPtr& event : options_.kept) {
      if (event->sequence() <= position_) continue;  // Not ours, or damaged: skipped.
      if (position_ == 0) dropped_ = event->sequence() - 1;
      position_ = event->sequence();
      Hold(std::move(event));
    }
    options_.kept.clear();
    if (position_ == 0) dropped_ = options_.start_after;
    position_ = saved_ = std::max(position_, options_.start_after);
  }

  uint64_t Append(absl::string_view instance, Event event);
  absl::StatusOr<std::vector<EventPtr>> Read(uint64_t after, size_t max) const;
  uint64_t WakeAfter(uint64_t after, std::function<void()> wake);
  void CancelWake(uint64_t id);
  void RunWhenSaved(uint64_t sequence, std::function<void()> then);
  void Flush();

  uint64_t position() const {
    MutexLock lock(&mutex_);
    return position_;
  }
  uint64_t oldest() const {
    MutexLock lock(&mutex_);
    return OldestLocked();
  }
  size_t waiting_count() const {
    MutexLock lock(&mutex_);
    return waiters_.size();
  }

 private:
  // A kind of error of a job, told at `told`; `held_back` stands for those since.
  struct ErrorKind {
    v1::IoOperationType operation;
    v1::BlockErrorAction action;
    absl::Duration told = kNever;
    absl::optional<Event> held_back;
  };
  struct Slot {
    std::vector<ErrorKind> errors;  // At most one per pair of enum values that are told apart.
    absl::Duration progress_told = kNever;
    absl::optional<Event> progress_held_back;
    uint64_t progress_sequence = 0;  // The newest one told: replaced by the next.
  };
  struct Waiter {
    uint64_t after;
    std::function<void()> wake;
  };
  // What to post once the lock is let go.
  struct Outbox {
    std::vector<std::function<void()>> wakes;
    bool arm_timer = false;
    bool save = false;
  };
  using SlotKey = std::pair<std::string, std::string>;  // Instance, job.

  void AddError(Event event, Slot& slot, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddProgress(Event event, Slot& slot, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells what the slot holds back, if it was told last at `told_by` or before.
  void FlushSlot(Slot& slot, absl::Duration told_by, Outbox* outbox)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HoldBack(Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t Commit(Event event, Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CommitProgress(Event event, Slot& slot, Outbox* outbox)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Hold(EventPtr event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(std::map<uint64_t, EventPtr>::iterator held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t OldestLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return held_.empty() ? position_ + 1 : held_.begin()->first;
  }
  void Post(Outbox outbox);
  void OnTimer();
  void SaveAll();
  void SaveAgain(std::vector<EventPtr> events);
  void BoundUnsaved() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PostSave();

  Clock& clock_;
  Executor& executor_;
  EventLogOptions options_;  // Constant after construction.

  mutable Mutex mutex_;
  std::map<uint64_t, EventPtr> held_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t position_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<SlotKey, Slot> slots_ ABSL_GUARDED_BY(mutex_);
  size_t held_back_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool timer_armed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_waiter_ ABSL_GUARDED_BY(mutex_) = 1;
  std::deque<EventPtr> unsaved_ ABSL_GUARDED_BY(mutex_);
  size_t unsaved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool unsaved_have_hole_ ABSL_GUARDED_BY(mutex_) = false;
  bool saving_ ABSL_GUARDED_BY(mutex_) = false;
  // The tail was told of all up to here.
  uint64_t saved_ ABSL_GUARDED_BY(mutex_) = 0;
  // By the sequence that each waits for.
  std::multimap<uint64_t, std::function<void()>> when_saved_ ABSL_GUARDED_BY(mutex_);
};

uint64_t EventLog::Core::Append(absl::string_view instance, Event event) {
  event.set_instance(std::string(instance));
  event.set_kind(KindOf(event));
  if (!event.has_time()) ToProto(clock_.Now(), event.mutable_time());
  SlotKey key(event.instance(), std::string(JobIdOf(event)));
  Outbox outbox;
  uint64_t position = 0;
  {
    MutexLock lock(&mutex_);
    if (key.second.empty()) {
      Commit(std::move(event), &outbox);
    } else {
      if (slots_.size() >= kCoalescedJobsMax && slots_.find(key) == slots_.end()) {
        for (auto& [other, slot] : slots_) FlushSlot(slot, absl::InfiniteDuration(), &outbox);
        slots_.clear();
      }
      Slot& slot = slots_[key];
      if (event.has_block_job_error()) {
        AddError(std::move(event), slot, &outbox);
      } else if (event.has_job_progress()) {
        AddProgress(std::move(event), slot, &outbox);
      } else {
        FlushSlot(slot, absl::InfiniteDuration(), &outbox);
        const bool is_last = event.job_status_change().status() == v1::JOB_STATUS_NULL;
        Commit(std::move(event), &outbox);
        if (is_last) slots_.erase(key);
      }
    }
    position = position_;
  }
  Post(std::move(outbox));
  return position;
}

void EventLog::Core::AddError(Event event, Slot& slot, Outbox* outbox) {
  v1::BlockJobErrorEvent& error = *event.mutable_block_job_error();
  if (error.count() == 0) error.set_count(1);
  auto kind = std::find_if(slot.errors.begin(), slot.errors.end(), [&error](const ErrorKind& k) {
    return k.operation == error.operation() && k.action == error.action();
  });
  if (kind == slot.errors.end()) {
    // Unknown enum values share one kind, so that kinds stay few.
    if (!v1::IoOperationType_IsValid(error.operation())) {
      error.set_operation(v1::IO_OPERATION_TYPE_UNSPECIFIED);
    }
    if (!v1::BlockErrorAction_IsValid(error.action())) {
      error.set_action(v1::BLOCK_ERROR_ACTION_UNSPECIFIED);
    }
    kind = slot.errors.insert(slot.errors.end(), {error.operation(), error.action(), kNever, {}});
  }
  const absl::Duration now = clock_.Elapsed();
  if (kind->held_back.has_value()) {
    error.set_count(error.count() + kind->held_back->block_job_error().count());
    kind->held_back.reset();
    --held_back_count_;
  }
  if (now - kind->told >= options_.coalesce_period) {
    kind->told = now;
    Commit(std::move(event), outbox);
  } else {
    kind->held_back = std::move(event);
    HoldBack(outbox);
  }
}

void EventLog::Core::AddProgress(Event event, Slot& slot, Outbox* outbox) {
  const absl::Duration now = clock_.Elapsed();
  if (slot.progress_held_back.has_value()) {
    slot.progress_held_back.reset();
    --held_back_count_;
  }
  if (now - slot.progress_told >= options_.coalesce_period) {
    CommitProgress(std::move(event), slot, outbox);
  } else {
    slot.progress_held_back = std::move(event);
    HoldBack(outbox);
  }
}

void EventLog::Core::HoldBack(Outbox* outbox) {
  ++held_back_count_;
  if (!timer_armed_) timer_armed_ = outbox->arm_timer = true;
}

void EventLog::Core::FlushSlot(Slot& slot, absl::Duration told_by, Outbox* outbox) {
  for (ErrorKind& kind : slot.errors) {
    if (!kind.held_back.has_value() || kind.told > told_by) continue;
    Event event = *std::move(kind.held_back);
    kind.held_back.reset();
    kind.told = clock_.Elapsed();
    --held_back_count_;
    Commit(std::move(event), outbox);
  }
  if (slot.progress_held_back.has_value() && slot.progress_told <= told_by) {
    Event event = *std::move(slot.progress_held_back);
    slot.progress_held_back.reset();
    --held_back_count_;
    CommitProgress(std::move(event), slot, outbox);
  }
}

uint64_t EventLog::Core::Commit(Event event, Outbox* outbox) {
  event.set_sequence(++position_);
  auto shared = std::make_shared<const Event>(std::move(event));
  if (options_.tail != nullptr) {
    unsaved_bytes_ += shared->ByteSizeLong();
    unsaved_.push_back(shared);
    BoundUnsaved();
    if (!saving_) saving_ = outbox->save = true;
  }
  Hold(std::move(shared));
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    if (waiter->second.after >= position_) {
      ++waiter;
      continue;
    }
    outbox->wakes.push_back(std::move(waiter->second.wake));
    waiter = waiters_.erase(waiter);
  }
  return position_;
}

void EventLog::Core::CommitProgress(Event event, Slot& slot, Outbox* outbox) {
  const auto replaced = held_.find(slot.progress_sequence);
  if (replaced != held_.end()) Forget(replaced);
  slot.progress_told = clock_.Elapsed();
  slot.progress_sequence = Commit(std::move(event), outbox);
}

void EventLog::Core::Hold(EventPtr event) {
  const uint64_t sequence = event->sequence();
  bytes_ += event->ByteSizeLong();
  held_.emplace_hint(held_.end(), sequence, std::move(event));
  while (held_.size() > 1 &&
         (held_.size() > options_.events_kept_max || bytes_ > options_.event_bytes_kept_max)) {
    dropped_ = held_.begin()->first;
    Forget(held_.begin());
  }
}

void EventLog::Core::Forget(std::map<uint64_t, EventPtr>::iterator held) {
  bytes_ -= held->second->ByteSizeLong();
  held_.erase(held);
}

void EventLog::Core::Post(Outbox outbox) {
  for (std::function<void()>& wake : outbox.wakes) executor_.Post(std::move(wake));
  if (outbox.arm_timer) {
    executor_.PostAfter(options_.coalesce_period, [weak = weak_from_this()] {
      if (const auto core = weak.lock()) core->OnTimer();
    });
  }
  if (outbox.save) PostSave();
}

void EventLog::Core::OnTimer() {
  Outbox outbox;
  {
    MutexLock lock(&mutex_);
    const absl::Duration told_by = clock_.Elapsed() - options_.coalesce_period;
    for (auto& [key, slot] : slots_) FlushSlot(slot, told_by, &outbox);
    timer_armed_ = outbox.arm_timer = held_back_count_ > 0;
  }
  Post(std::move(outbox));
}

void EventLog::Core::Flush() {
  Outbox outbox;
  {
    MutexLock lock(&mutex_);
    for (auto& [key, slot] : slots_) FlushSlot(slot, absl::InfiniteDuration(), &outbox);
  }
  Post(std::move(outbox));
}

void EventLog::Core::SaveAll() {
  std::vector<EventPtr> events;
  bool have_hole = false;
  {
    MutexLock lock(&mutex_);
    events.assign(unsaved_.begin(), unsaved_.end());
    unsaved_.clear();
    unsaved_bytes_ = 0;
    have_hole = std::exchange(unsaved_have_hole_, false);
  }
  if (have_hole) options_.tail->AddGap();
  if (!options_.tail->Save(events).ok()) return SaveAgain(std::move(events));
  std::vector<std::function<void()>> due;
  bool is_more = false;
  {
    MutexLock lock(&mutex_);
    saved_ = events.back()->sequence();
    const auto end = when_saved_.upper_bound(saved_);
    for (auto it = when_saved_.begin(); it != end; ++it) due.push_back(std::move(it->second));
    when_saved_.erase(when_saved_.begin(), end);
    is_more = saving_ = !unsaved_.empty();
  }
  for (std::function<void()>& then : due) executor_.Post(std::move(then));
  // One after the other, so that a flood of events leaves the executor to others, too.
  if (is_more) PostSave();
}

// A disk that is full now may have space later.
void EventLog::Core::SaveAgain(std::vector<EventPtr> events) {
  {
    MutexLock lock(&mutex_);
    for (auto event = events.rbegin(); event != events.rend(); ++event) {
      unsaved_bytes_ += (*event)->ByteSizeLong();
      unsaved_.push_front(std::move(*event));
    }
    BoundUnsaved();
  }
  Executor& saver = options_.saver != nullptr ? *options_.saver : executor_;
  saver.PostAfter(kSaveAgain, [core = shared_from_this()] { core->SaveAll(); });
}

void EventLog::Core::BoundUnsaved() {
  while (unsaved_.size() > options_.events_kept_max ||
         (unsaved_.size() > 1 && unsaved_bytes_ > options_.event_bytes_kept_max)) {
    unsaved_bytes_ -= unsaved_.front()->ByteSizeLong();
    unsaved_.pop_front();
    unsaved_have_hole_ = true;
  }
}

// Strong: what happened last is saved even if the log ends now.
void EventLog::Core::PostSave() {
  Executor& saver = options_.saver != nullptr ? *options_.saver : executor_;
  saver.Post([core = shared_from_this()] { core->SaveAll(); });
}

void EventLog::Core::RunWhenSaved(uint64_t sequence, std::function<void()> then) {
  if (options_.tail != nullptr) {
    MutexLock lock(&mutex_);
    if (sequence > saved_) {
      when_saved_.emplace(sequence, std::move(then));
      return;
    }
  }
  executor_.Post(std::move(then));
}

absl::StatusOr<std::vector<EventPtr>> EventLog::Core::Read(uint64_t after, size_t max) const {
  MutexLock lock(&mutex_);
  if (after > position_) {
    return Error(Reason::kSequenceUnknown,
                 absl::StrCat("There is no event ", after, " yet: the newest is ", position_),
                 {{"newest_sequence", absl::StrCat(position_)}});
  }
  if (after < dropped_) {
    return Error(Reason::kEventsExpired,
                 absl::StrCat("Events after ", after, " are no longer all kept: the oldest is ",
                              OldestLocked()),
                 {{"oldest_sequence", absl::StrCat(OldestLocked())}});
  }
  std::vector<EventPtr> events;
  for (auto held = held_.upper_bound(after); held != held_.end() && events.size() < max; ++held) {
    events.push_back(held->second);
  }
  return events;
}

uint64_t EventLog::Core::WakeAfter(uint64_t after, std::function<void()> wake) {
  {
    MutexLock lock(&mutex_);
    const uint64_t id = next_waiter_++;
    if (after >= position_) {
      waiters_.emplace(id, Waiter{after, std::move(wake)});
      return id;
    }
  }
  executor_.Post(std::move(wake));
  return 0;
}

void EventLog::Core::CancelWake(uint64_t id) {
  std::function<void()> wake;  // Destroyed after the lock is let go.
  MutexLock lock(&mutex_);
  const auto found = waiters_.find(id);
  if (found == waiters_.end()) return;
  wake = std::move(found->second.wake);
  waiters_.erase(found);
}

EventLog::EventLog(Clock& clock, Executor& executor, EventLogOptions options)
    : core_(std::make_shared<Core>(clock, executor, std::move(options))) {}
EventLog::~EventLog() = default;

uint64_t EventLog::Append(absl::string_view instance, Event event) {
  return core_->Append(instance, std::move(event));
}
uint64_t EventLog::position() const { return core_->position(); }
uint64_t EventLog::oldest() const { return core_->oldest(); }
absl::StatusOr<std::vector<EventPtr>> EventLog::Read(uint64_t after, size_t max) const {
  return core_->Read(after, max);
}
uint64_t EventLog::WakeAfter(uint64_t after, std::function<void()> wake) {
  return core_->WakeAfter(after, std::move(wake));
}
void EventLog::CancelWake(uint64_t id) { core_->CancelWake(id); }
void EventLog::RunWhenSaved(uint64_t sequence, std::function<void()> then) {
  core_->RunWhenSaved(sequence, std::move(then));
}
void EventLog::Flush() { core_->Flush(); }
size_t EventLog::waiting_count() const { return core_->waiting_count(); }

}  // namespace tidemark::backend
