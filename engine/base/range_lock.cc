#include "engine/base/range_lock.h"

namespace tidemark {

// Whether somebody who came before is in the way of `entry`, holding or waiting.
bool RangeLock::IsInTheWay(Entries::iterator entry) const {
  for (auto before = entries_.begin(); before != Entries::const_iterator(entry); ++before) {
    if ((before->alone || entry->alone) && before->range.Overlaps(entry->range)) return true;
  }
  return false;
}

RangeLock::Hold RangeLock::Share(Range range) {
  MutexLock lock(&mutex_);
  const auto entry = entries_.insert(entries_.end(), Entry{range, /*alone=*/false});
  ++waiting_count_;
  while (IsInTheWay(entry)) changed_.Wait(&mutex_);
  --waiting_count_;
  return Hold(this, entry);
}

RangeLock::Hold RangeLock::Take(Range range) {
  return *Take(range, absl::InfiniteDuration(), [] { return false; });
}

absl::optional<RangeLock::Hold> RangeLock::Take(Range range, absl::Duration interval,
                                                const std::function<bool()>& gives_up) {
  Entries::iterator entry;
  {
    MutexLock lock(&mutex_);
    entry = entries_.insert(entries_.end(), Entry{range, /*alone=*/true});
    ++waiting_count_;
  }
  for (;;) {
    bool granted = false;
    {
      MutexLock lock(&mutex_);
      if (IsInTheWay(entry)) {
        if (interval == absl::InfiniteDuration()) {
          changed_.Wait(&mutex_);
        } else {
          changed_.WaitFor(&mutex_, interval);
        }
      }
      granted = !IsInTheWay(entry);
      if (granted) --waiting_count_;
    }
    if (granted) return Hold(this, entry);
    if (!gives_up()) continue;
    {
      MutexLock lock(&mutex_);
      --waiting_count_;
    }
    // Those who wait behind need not any more.
    Release(entry);
    return absl::nullopt;
  }
}

void RangeLock::Release(Entries::iterator entry) {
  bool someone_waits = false;
  {
    MutexLock lock(&mutex_);
    entries_.erase(entry);
    someone_waits = waiting_count_ > 0;
  }
  if (someone_waits) changed_.SignalAll();
}

}  // namespace tidemark
