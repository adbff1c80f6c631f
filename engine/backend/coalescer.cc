#include "engine/backend/coalescer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/limits.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

// Never told yet.
constexpr absl::Duration kNever = -absl::InfiniteDuration();

// What separates names in a key: no name holds it.
constexpr char kBreak[] = "\n";

// Unknown enum values count as one, so that kinds stay few.
template <typename Enum>
int Known(Enum value, bool is_known) {
  return is_known ? static_cast<int>(value) : 0;
}

uint64_t CountOf(const v1::Event& event) {
  switch (event.payload_case()) {
    case v1::Event::kBlockJobError:
      return event.block_job_error().count();
    case v1::Event::kBlockIoError:
      return event.block_io_error().count();
    case v1::Event::kQuorumFailure:
      return event.quorum_failure().count();
    case v1::Event::kQuorumReportBad:
      return event.quorum_report_bad().count();
    default:
      return 0;
  }
}

void SetCount(uint64_t count, v1::Event* event) {
  switch (event->payload_case()) {
    case v1::Event::kBlockJobError:
      return event->mutable_block_job_error()->set_count(count);
    case v1::Event::kBlockIoError:
      return event->mutable_block_io_error()->set_count(count);
    case v1::Event::kQuorumFailure:
      return event->mutable_quorum_failure()->set_count(count);
    case v1::Event::kQuorumReportBad:
      return event->mutable_quorum_report_bad()->set_count(count);
    default:
      return;
  }
}

// What makes two errors of one slot alike; empty for an event that is none.
std::string KindOfError(const v1::Event& event) {
  switch (event.payload_case()) {
    case v1::Event::kBlockJobError: {
      const v1::BlockJobErrorEvent& error = event.block_job_error();
      return absl::StrCat("job ",
                          Known(error.operation(), v1::IoOperationType_IsValid(error.operation())),
                          " ", Known(error.action(), v1::BlockErrorAction_IsValid(error.action())));
    }
    case v1::Event::kBlockIoError: {
      const v1::BlockIoErrorEvent& error = event.block_io_error();
      return absl::StrCat(
          "io ", Known(error.operation(), v1::IoOperationType_IsValid(error.operation())), " ",
          Known(error.action(), v1::BlockErrorAction_IsValid(error.action())), " ", error.nospace(),
          kBreak, error.qom_path(), kBreak, error.device(), kBreak, error.node_name());
    }
    case v1::Event::kQuorumFailure:
      return absl::StrCat("quorum", kBreak, event.quorum_failure().reference());
    case v1::Event::kQuorumReportBad: {
      const v1::QuorumReportBadEvent& bad = event.quorum_report_bad();
      return absl::StrCat("bad ", Known(bad.type(), v1::QuorumOpType_IsValid(bad.type())), kBreak,
                          bad.node_name());
    }
    default:
      return "";
  }
}

}  // namespace

void Coalescer::Add(Event event, absl::Duration now, Tell tell) {
  const std::string job(JobIdOf(event));
  std::string kind = KindOfError(event);
  const bool is_error = !kind.empty();
  // Most events of no job are nothing to remember an instance for.
  if (job.empty() && !is_error) {
    const auto slot = slots_.find({event.instance(), ""});
    if (slot != slots_.end()) TellSlot(slot->second, absl::InfiniteDuration(), now, tell);
    tell(std::move(event), 0);
    return;
  }
  const SlotKey key(event.instance(), job);
  Slot& slot = SlotOf(key, now, tell);
  if (is_error) return AddError(std::move(kind), std::move(event), slot, now, tell);
  if (event.has_job_progress()) return AddProgress(std::move(event), slot, now, tell);
  TellSlot(slot, absl::InfiniteDuration(), now, tell);
  const bool is_last = event.job_status_change().status() == v1::JOB_STATUS_NULL;
  tell(std::move(event), 0);
  if (is_last) slots_.erase(key);
}

Coalescer::Slot& Coalescer::SlotOf(SlotKey key, absl::Duration now, Tell tell) {
  if (slots_.size() >= kCoalescedJobsMax && slots_.find(key) == slots_.end()) {
    TellAll(now, tell);
    slots_.clear();
  }
  return slots_.try_emplace(std::move(key), Slot{{}, kNever, absl::nullopt, 0}).first->second;
}

void Coalescer::AddError(std::string kind, Event event, Slot& slot, absl::Duration now, Tell tell) {
  if (slot.errors.size() >= kCoalescedKindsMax && slot.errors.find(kind) == slot.errors.end()) {
    TellSlot(slot, absl::InfiniteDuration(), now, tell);
    slot.errors.clear();
  }
  ErrorKind& error =
      slot.errors.try_emplace(std::move(kind), ErrorKind{kNever, absl::nullopt}).first->second;
  uint64_t count = std::max<uint64_t>(CountOf(event), 1);
  if (error.held_back.has_value()) {
    count += CountOf(*error.held_back);
    error.held_back.reset();
    --held_back_count_;
  }
  SetCount(count, &event);
  if (now - error.told >= period_) {
    error.told = now;
    tell(std::move(event), 0);
  } else {
    error.held_back = std::move(event);
    ++held_back_count_;
  }
}

void Coalescer::AddProgress(Event event, Slot& slot, absl::Duration now, Tell tell) {
  if (slot.progress_held_back.has_value()) {
    slot.progress_held_back.reset();
    --held_back_count_;
  }
  if (now - slot.progress_told >= period_) {
    slot.progress_told = now;
    slot.progress_sequence = tell(std::move(event), slot.progress_sequence);
  } else {
    slot.progress_held_back = std::move(event);
    ++held_back_count_;
  }
}

void Coalescer::TellSlot(Slot& slot, absl::Duration told_by, absl::Duration now, Tell tell) {
  for (auto& [kind, error] : slot.errors) {
    if (!error.held_back.has_value() || error.told > told_by) continue;
    Event event = *std::move(error.held_back);
    error.held_back.reset();
    error.told = now;
    --held_back_count_;
    tell(std::move(event), 0);
  }
  if (slot.progress_held_back.has_value() && slot.progress_told <= told_by) {
    Event event = *std::move(slot.progress_held_back);
    slot.progress_held_back.reset();
    slot.progress_told = now;
    --held_back_count_;
    slot.progress_sequence = tell(std::move(event), slot.progress_sequence);
  }
}

void Coalescer::TellDue(absl::Duration now, Tell tell) {
  for (auto& [key, slot] : slots_) TellSlot(slot, now - period_, now, tell);
}

void Coalescer::TellAll(absl::Duration now, Tell tell) {
  for (auto& [key, slot] : slots_) TellSlot(slot, absl::InfiniteDuration(), now, tell);
}

}  // namespace tidemark::backend
