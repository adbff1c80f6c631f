#include "engine/job/state.h"

#include <iterator>
#include <utility>

namespace tidemark::job {
namespace {

using S = JobStatus;
using V = JobVerb;

// Every move a job may make. A pair that is not listed here is a bug of the engine.
constexpr std::pair<JobStatus, JobStatus> kMoves[] = {
    {S::kUndefined, S::kCreated}, {S::kCreated, S::kRunning},  {S::kCreated, S::kAborting},
    {S::kCreated, S::kNull},      {S::kRunning, S::kPaused},   {S::kRunning, S::kReady},
    {S::kRunning, S::kWaiting},   {S::kRunning, S::kAborting}, {S::kPaused, S::kRunning},
    {S::kReady, S::kStandby},     {S::kReady, S::kWaiting},    {S::kReady, S::kAborting},
    {S::kStandby, S::kReady},     {S::kWaiting, S::kPending},  {S::kWaiting, S::kAborting},
    {S::kPending, S::kConcluded}, {S::kPending, S::kAborting}, {S::kAborting, S::kConcluded},
    {S::kConcluded, S::kNull},
};

// Every verb a state accepts. (A pause of a paused job passes here and is refused by name later.)
constexpr std::pair<JobVerb, JobStatus> kVerbs[] = {
    {V::kCancel, S::kCreated},    {V::kCancel, S::kRunning},   {V::kCancel, S::kPaused},
    {V::kCancel, S::kReady},      {V::kCancel, S::kStandby},   {V::kCancel, S::kWaiting},
    {V::kCancel, S::kPending},

    {V::kPause, S::kCreated},     {V::kPause, S::kRunning},    {V::kPause, S::kPaused},
    {V::kPause, S::kReady},       {V::kPause, S::kStandby},

    {V::kResume, S::kCreated},    {V::kResume, S::kRunning},   {V::kResume, S::kPaused},
    {V::kResume, S::kReady},      {V::kResume, S::kStandby},

    {V::kSetSpeed, S::kCreated},  {V::kSetSpeed, S::kRunning}, {V::kSetSpeed, S::kPaused},
    {V::kSetSpeed, S::kReady},    {V::kSetSpeed, S::kStandby},

    {V::kComplete, S::kReady},    {V::kComplete, S::kStandby},

    {V::kFinalize, S::kPending},

    {V::kDismiss, S::kConcluded},

    {V::kChange, S::kCreated},    {V::kChange, S::kRunning},   {V::kChange, S::kPaused},
    {V::kChange, S::kReady},      {V::kChange, S::kStandby},
};

constexpr absl::string_view kStatusNames[] = {
    "undefined", "created", "running",  "paused",    "ready", "standby",
    "waiting",   "pending", "aborting", "concluded", "null",
};
static_assert(std::size(kStatusNames) == kJobStatusCount);

constexpr absl::string_view kVerbNames[] = {
    "cancel", "pause", "resume", "set-speed", "complete", "finalize", "dismiss", "change",
};
static_assert(std::size(kVerbNames) == kJobVerbCount);

constexpr absl::string_view kTypeNames[] = {"backup", "mirror", "stream", "commit", "create"};

}  // namespace

bool CanMove(JobStatus from, JobStatus to) {
  for (const auto& move : kMoves) {
    if (move.first == from && move.second == to) return true;
  }
  return false;
}

bool IsAllowed(JobVerb verb, JobStatus status) {
  for (const auto& allowed : kVerbs) {
    if (allowed.first == verb && allowed.second == status) return true;
  }
  return false;
}

bool IsBlockJob(JobType type) { return type != JobType::kCreate; }

absl::string_view NameOf(JobStatus status) { return kStatusNames[static_cast<int>(status)]; }
absl::string_view NameOf(JobVerb verb) { return kVerbNames[static_cast<int>(verb)]; }
absl::string_view NameOf(JobType type) { return kTypeNames[static_cast<int>(type)]; }

}  // namespace tidemark::job
