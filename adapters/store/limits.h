// Every bound of the state folder, with its reason.
#ifndef ADAPTERS_STORE_LIMITS_H_
#define ADAPTERS_STORE_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "engine/backend/limits.h"

namespace tidemark::store {

// As many events as the log keeps in memory: more would never be read again.
constexpr size_t kEventsSavedMax = backend::kEventsKeptMax;
constexpr size_t kEventBytesSavedMax = backend::kEventBytesKeptMax;

// A log that goes on after a restart leaves out this many sequences: more than the JOB_PROGRESS
// events, which are not saved, that were told since the last event that was.
constexpr uint64_t kRestartGap = uint64_t{1} << 24;

// How long a call waits for another program that looks into the database.
constexpr int kBusyMillisecondsMax = 5'000;

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_LIMITS_H_
