// Every bound of engine/backend, with its reason.
#ifndef ENGINE_BACKEND_LIMITS_H_
#define ENGINE_BACKEND_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::backend {

// Events that the log keeps for replay: hours of a busy host, since a backup makes about ten.
constexpr size_t kEventsKeptMax = 100'000;
// Their serialised size: 32 MiB.
constexpr size_t kEventBytesKeptMax = size_t{32} << 20;

// Identical errors of one job, and its progress, are told at most once in this time.
constexpr absl::Duration kCoalescePeriod = absl::Milliseconds(100);
// Kinds of error of one job or instance that are told apart at once: beyond it as below.
constexpr size_t kCoalescedKindsMax = 256;
// Jobs whose coalescing is remembered at once. Beyond it, what is held back is told and
// all are forgotten: at worst one event of each comes early.
constexpr size_t kCoalescedJobsMax = 4'096;

// Instances of which the log knows apart how much of them is missing: as many as there may be.
constexpr size_t kDroppedInstancesMax = 10'000;

// Between two tries to save events.
constexpr absl::Duration kSaveAgain = absl::Seconds(1);
// Readers wait so long for a state folder that does not answer; then they are told events that are
// not saved. Less than clients wait for a reply, more than a disk is ever busy.
constexpr absl::Duration kSaveTimeMax = absl::Seconds(5);

// Events that the job book leaves unread until it is asked. Few beside what the log keeps, but not
// none: a thread would be woken for each event, in the way of those who wait for it.
constexpr uint64_t kBookBehindMax = 64;

// Events that one Read returns.
constexpr size_t kEventsPerReadMax = 1'000;

// Ended jobs whose result GetJob and ListJobs still know.
constexpr size_t kEndedJobsMax = 10'000;

// How deep messages may be nested, and how many values one request may hold in all.
constexpr int kRequestDepthMax = 64;
constexpr size_t kRequestValuesMax = 100'000;
// Elements of a list in a request whose field does not say how many it may have.
constexpr uint32_t kRequestItemsMax = 1'024;

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_LIMITS_H_
