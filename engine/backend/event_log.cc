// How it works.
//
// With a tail an event goes three steps: position_ counts it, saved_ has reached it, shown_ has.
// SaveAll takes all that is not saved at once, on the saver; what is appended meanwhile goes with
// the next one. As long as saving works, shown_ is saved_. While it does not, shown_ is position_.
//
// The timer that tells what the coalescer holds back runs while anything is held back. Nothing is
// posted with the lock held: wakes and timers that fall due are collected in an Outbox and posted
// after it is let go.
#include "engine/backend/event_log.h"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/coalescer.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/held_events.h"
#include "engine/backend/log_id.h"
#include "engine/backend/proto_time.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/utf8.h"

namespace tidemark::backend {

namespace v1 = ::tidemark::block::v1;

class EventLog::Core : public std::enable_shared_from_this<EventLog::Core> {
 public:
  Core(Clock& clock, Executor& executor, EventLogOptions options)
      : clock_(clock),
        executor_(executor),
        options_(std::move(options)),
        id_(options_.id.empty() ? MakeLogId() : options_.id),
        held_(options_.events_kept_max, options_.event_bytes_kept_max, options_.dropped,
              options_.dropped_of),
        coalescer_(options_.coalesce_period) {
    MutexLock lock(&mutex_);
    for (EventPtr& event : options_.kept) {
      if (event->sequence() <= position_) continue;  // Not ours, or damaged: skipped.
      position_ = event->sequence();
      held_.Add(std::move(event));
    }
    options_.kept.clear();
    if (position_ == 0) held_.DropUpTo(options_.start_after);
    position_ = saved_ = shown_ = std::max(position_, options_.start_after);
  }

  uint64_t Append(absl::string_view instance, Event event);
  absl::StatusOr<std::vector<EventPtr>> Read(uint64_t after, size_t max,
                                             const std::vector<std::string>& instances) const;
  std::vector<EventPtr> ReadHeld(uint64_t after, bool unshown, size_t max) const;
  uint64_t WakeAfter(uint64_t after, std::function<void()> wake);
  void CancelWake(uint64_t id);
  void RunWhenShown(uint64_t sequence, std::function<void()> then);
  void RunWhenSaved(uint64_t sequence, std::function<void()> then);
  void TellNotAnswering(absl::Duration age);
  void OnSavingChange(std::function<void(absl::Status)> changed);
  void Flush();

  const std::string& id() const { return id_; }
  bool is_kept() const { return options_.tail != nullptr; }
  uint64_t position() const {
    MutexLock lock(&mutex_);
    return position_;
  }
  uint64_t shown() const {
    MutexLock lock(&mutex_);
    return shown_;
  }
  uint64_t saved() const {
    MutexLock lock(&mutex_);
    return SavedLocked();
  }
  absl::Status saving() const {
    MutexLock lock(&mutex_);
    return saving_status_;
  }
  uint64_t oldest() const {
    MutexLock lock(&mutex_);
    return held_.OldestBehind(held_.DroppedOf({}), position_ + 1);
  }
  size_t waiting_count() const {
    MutexLock lock(&mutex_);
    return waiters_.size();
  }

 private:
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
  using BySequence = std::multimap<uint64_t, std::function<void()>>;

  uint64_t Commit(Event event, uint64_t replaced, Outbox* outbox)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t SavedLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return options_.tail == nullptr ? position_ : saved_;
  }
  void Show(Outbox* outbox) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void TakeDue(uint64_t sequence, BySequence* waiting, Outbox* outbox);
  // Runs `act`, which may commit, under the lock, and posts what comes of it.
  template <typename Act>
  void WithOutbox(Act act);
  void Post(Outbox outbox);
  void OnTimer();
  void SaveAll();
  void SaveAgain(std::vector<EventPtr> events);
  void SetSaving(const absl::Status& status);
  void WatchSaver();
  void TellAnswering();
  void BoundUnsaved() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Executor& saver() { return options_.saver != nullptr ? *options_.saver : executor_; }

  Clock& clock_;
  Executor& executor_;
  EventLogOptions options_;  // Constant after construction.
  const std::string id_;

  mutable Mutex mutex_;
  // Changes with readers too: it marks what they see.
  mutable HeldEvents held_ ABSL_GUARDED_BY(mutex_);
  uint64_t position_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t shown_ ABSL_GUARDED_BY(mutex_) = 0;
  Coalescer coalescer_ ABSL_GUARDED_BY(mutex_);
  bool timer_armed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_waiter_ ABSL_GUARDED_BY(mutex_) = 1;
  std::deque<EventPtr> unsaved_ ABSL_GUARDED_BY(mutex_);
  size_t unsaved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool unsaved_have_hole_ ABSL_GUARDED_BY(mutex_) = false;
  bool saving_ ABSL_GUARDED_BY(mutex_) = false;
  // When the tail was last called, while it has not answered; when nothing is asked, infinite.
  absl::Duration save_began_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  bool watching_saver_ ABSL_GUARDED_BY(mutex_) = false;
  // The tail was found not to answer, and has not answered since.
  bool is_hanging_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status saving_status_ ABSL_GUARDED_BY(mutex_);
  std::function<void(absl::Status)> on_saving_change_ ABSL_GUARDED_BY(mutex_);
  // The tail was told of all up to here.
  uint64_t saved_ ABSL_GUARDED_BY(mutex_) = 0;
  // By the sequence that each waits for.
  BySequence when_saved_ ABSL_GUARDED_BY(mutex_);
  BySequence when_shown_ ABSL_GUARDED_BY(mutex_);
};

template <typename Act>
void EventLog::Core::WithOutbox(Act act) {
  Outbox outbox;
  {
    MutexLock lock(&mutex_);
    // The analysis does not see that the lock is held where `tell` is called from.
    const auto tell =
        [this, &outbox](Event event, uint64_t replaced)
            ABSL_NO_THREAD_SAFETY_ANALYSIS { return Commit(std::move(event), replaced, &outbox); };
    act(Coalescer::Tell(tell));
    if (coalescer_.holds_back() && !timer_armed_) timer_armed_ = outbox.arm_timer = true;
  }
  Post(std::move(outbox));
}

uint64_t EventLog::Core::Append(absl::string_view instance, Event event) {
  event.set_instance(std::string(instance));
  event.set_kind(KindOf(event));
  event.clear_unsaved();
  if (!event.has_time()) ToProto(clock_.Now(), event.mutable_time());
  uint64_t position = 0;
  WithOutbox([&](Coalescer::Tell tell) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    coalescer_.Add(std::move(event), clock_.Elapsed(), tell);
    position = position_;
  });
  return position;
}

uint64_t EventLog::Core::Commit(Event event, uint64_t replaced, Outbox* outbox) {
  held_.Remove(replaced);
  event.set_sequence(++position_);
  auto shared = std::make_shared<const Event>(std::move(event));
  if (options_.tail != nullptr) {
    unsaved_bytes_ += shared->ByteSizeLong();
    unsaved_.push_back(shared);
    BoundUnsaved();
    if (!saving_) saving_ = outbox->save = true;
  }
  held_.Add(std::move(shared));
  Show(outbox);
  return position_;
}

// Moves shown_ to where it belongs, and wakes those who wait for it.
void EventLog::Core::Show(Outbox* outbox) {
  const bool is_all_shown = options_.tail == nullptr || !saving_status_.ok();
  shown_ = std::max(shown_, is_all_shown ? position_ : saved_);
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    if (waiter->second.after >= shown_) {
      ++waiter;
      continue;
    }
    outbox->wakes.push_back(std::move(waiter->second.wake));
    waiter = waiters_.erase(waiter);
  }
  TakeDue(shown_, &when_shown_, outbox);
}

void EventLog::Core::TakeDue(uint64_t sequence, BySequence* waiting, Outbox* outbox) {
  const auto end = waiting->upper_bound(sequence);
  for (auto it = waiting->begin(); it != end; ++it) outbox->wakes.push_back(std::move(it->second));
  waiting->erase(waiting->begin(), end);
}

void EventLog::Core::Post(Outbox outbox) {
  for (std::function<void()>& wake : outbox.wakes) executor_.Post(std::move(wake));
  if (outbox.arm_timer) {
    executor_.PostAfter(options_.coalesce_period, [weak = weak_from_this()] {
      if (const auto core = weak.lock()) core->OnTimer();
    });
  }
  // Strong: what happened last is saved even if the log ends now.
  if (outbox.save) saver().Post([core = shared_from_this()] { core->SaveAll(); });
}

void EventLog::Core::OnTimer() {
  WithOutbox([this](Coalescer::Tell tell) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    timer_armed_ = false;
    coalescer_.TellDue(clock_.Elapsed(), tell);
  });
}

void EventLog::Core::Flush() {
  WithOutbox([this](Coalescer::Tell tell)
                 ABSL_NO_THREAD_SAFETY_ANALYSIS { coalescer_.TellAll(clock_.Elapsed(), tell); });
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
    save_began_ = clock_.Elapsed();
  }
  WatchSaver();
  if (have_hole) options_.tail->AddGap();
  const absl::Status saved = options_.tail->Save(events);
  TellAnswering();
  if (!saved.ok()) {
    SaveAgain(std::move(events));
    SetSaving(saved);
    return;
  }
  Outbox outbox;
  {
    MutexLock lock(&mutex_);
    save_began_ = absl::InfiniteDuration();
    saved_ = events.back()->sequence();
    TakeDue(saved_, &when_saved_, &outbox);
    Show(&outbox);
    // One after the other, so that a flood of events leaves the executor to others, too.
    saving_ = outbox.save = !unsaved_.empty();
  }
  Post(std::move(outbox));
  SetSaving(absl::OkStatus());
}

// A disk that is full now may have space later.
void EventLog::Core::SaveAgain(std::vector<EventPtr> events) {
  {
    MutexLock lock(&mutex_);
    save_began_ = absl::InfiniteDuration();
    for (auto event = events.rbegin(); event != events.rend(); ++event) {
      unsaved_bytes_ += (*event)->ByteSizeLong();
      unsaved_.push_front(std::move(*event));
    }
    BoundUnsaved();
  }
  saver().PostAfter(kSaveAgain, [core = shared_from_this()] { core->SaveAll(); });
}

// Tells it if saving has become possible or impossible. Without it all is shown from now on.
void EventLog::Core::SetSaving(const absl::Status& status) {
  std::function<void(absl::Status)> changed;
  // In one go: of two changes at once, the last event tells the last one.
  WithOutbox([&](Coalescer::Tell tell) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    const bool is_change = saving_status_.ok() != status.ok();
    saving_status_ = status;
    if (!is_change) return;
    changed = on_saving_change_;
    Event event;
    event.mutable_state_saving_change()->set_saving(status.ok());
    event.mutable_state_saving_change()->set_error(ToUtf8(status.message()));
    event.set_kind(KindOf(event));
    ToProto(clock_.Now(), event.mutable_time());
    coalescer_.Add(std::move(event), clock_.Elapsed(), tell);
  });
  if (changed) executor_.Post([changed, status] { changed(status); });
}

void EventLog::Core::TellNotAnswering(absl::Duration age) {
  if (options_.tail == nullptr) return;
  const std::string text =
      absl::StrCat("the state folder has not answered for ", absl::FormatDuration(age));
  bool is_new = false;
  {
    MutexLock lock(&mutex_);
    is_new = !std::exchange(is_hanging_, true);
  }
  if (is_new) {
    options_.warn(absl::StrCat(text,
                               ", so its disk seems to hang; what happens until it answers "
                               "is lost if the service ends before"));
  }
  SetSaving(absl::UnavailableError(text));
}

void EventLog::Core::TellAnswering() {
  {
    MutexLock lock(&mutex_);
    if (!std::exchange(is_hanging_, false)) return;
  }
  options_.warn("the state folder answers again");
}

// One timer at a time looks whether the tail answers, for as long as it is asked.
void EventLog::Core::WatchSaver() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(watching_saver_, true)) return;
  }
  executor_.PostAfter(options_.save_time_max, [weak = weak_from_this()] {
    const auto core = weak.lock();
    if (core == nullptr) return;
    absl::Duration age;
    {
      MutexLock lock(&core->mutex_);
      core->watching_saver_ = false;
      age = core->clock_.Elapsed() - core->save_began_;
    }
    if (age < absl::ZeroDuration()) return;
    if (age >= core->options_.save_time_max) {
      core->TellNotAnswering(age);
    }
    core->WatchSaver();
  });
}

void EventLog::Core::BoundUnsaved() {
  while (unsaved_.size() > options_.events_kept_max ||
         (unsaved_.size() > 1 && unsaved_bytes_ > options_.event_bytes_kept_max)) {
    unsaved_bytes_ -= unsaved_.front()->ByteSizeLong();
    unsaved_.pop_front();
    unsaved_have_hole_ = true;
  }
}

void EventLog::Core::OnSavingChange(std::function<void(absl::Status)> changed) {
  MutexLock lock(&mutex_);
  on_saving_change_ = std::move(changed);
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

void EventLog::Core::RunWhenShown(uint64_t sequence, std::function<void()> then) {
  {
    MutexLock lock(&mutex_);
    if (sequence > shown_) {
      when_shown_.emplace(sequence, std::move(then));
      return;
    }
  }
  then();
}

absl::StatusOr<std::vector<EventPtr>> EventLog::Core::Read(
    uint64_t after, size_t max, const std::vector<std::string>& instances) const {
  MutexLock lock(&mutex_);
  if (after > position_) {
    return Error(Reason::kSequenceUnknown,
                 absl::StrCat("There is no event ", after, " yet: the newest is ", position_),
                 {{"newest_sequence", absl::StrCat(position_)}});
  }
  const uint64_t dropped = held_.DroppedOf(instances);
  if (after < dropped) {
    const uint64_t oldest = held_.OldestBehind(dropped, position_ + 1);
    return Error(
        Reason::kEventsExpired,
        absl::StrCat("Events after ", after, " are no longer all kept: the oldest is ", oldest),
        {{"oldest_sequence", absl::StrCat(oldest)}});
  }
  return held_.Read(after, shown_, SavedLocked(), max);
}

std::vector<EventPtr> EventLog::Core::ReadHeld(uint64_t after, bool unshown, size_t max) const {
  MutexLock lock(&mutex_);
  return held_.Read(after, unshown ? position_ : shown_, SavedLocked(), max);
}

uint64_t EventLog::Core::WakeAfter(uint64_t after, std::function<void()> wake) {
  {
    MutexLock lock(&mutex_);
    const uint64_t id = next_waiter_++;
    if (after >= shown_) {
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
bool EventLog::is_kept() const { return core_->is_kept(); }
const std::string& EventLog::id() const { return core_->id(); }
uint64_t EventLog::position() const { return core_->position(); }
uint64_t EventLog::shown() const { return core_->shown(); }
uint64_t EventLog::saved() const { return core_->saved(); }
absl::Status EventLog::saving() const { return core_->saving(); }
uint64_t EventLog::oldest() const { return core_->oldest(); }
absl::StatusOr<std::vector<EventPtr>> EventLog::Read(
    uint64_t after, size_t max, const std::vector<std::string>& instances) const {
  return core_->Read(after, max, instances);
}
std::vector<EventPtr> EventLog::ReadHeld(uint64_t after, bool unshown, size_t max) const {
  return core_->ReadHeld(after, unshown, max);
}
uint64_t EventLog::WakeAfter(uint64_t after, std::function<void()> wake) {
  return core_->WakeAfter(after, std::move(wake));
}
void EventLog::CancelWake(uint64_t id) { core_->CancelWake(id); }
void EventLog::RunWhenShown(uint64_t sequence, std::function<void()> then) {
  core_->RunWhenShown(sequence, std::move(then));
}
void EventLog::TellNotAnswering(absl::Duration age) { core_->TellNotAnswering(age); }
void EventLog::OnSavingChange(std::function<void(absl::Status)> changed) {
  core_->OnSavingChange(std::move(changed));
}
void EventLog::RunWhenSaved(uint64_t sequence, std::function<void()> then) {
  core_->RunWhenSaved(sequence, std::move(then));
}
void EventLog::Flush() { core_->Flush(); }
size_t EventLog::waiting_count() const { return core_->waiting_count(); }

}  // namespace tidemark::backend
