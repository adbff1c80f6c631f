// Several changes that happen together or not at all, at one instant. A single command is a
// transaction of one, so there is no second code path.
//
// Runs on a graph-command worker, one transaction at a time on any node.
#ifndef ENGINE_TRANSACTION_TRANSACTION_H_
#define ENGINE_TRANSACTION_TRANSACTION_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"

namespace tidemark::transaction {

// One change. The verbs are called in the order in which they stand here, by `Run` alone.
class Action {
 public:
  virtual ~Action() = default;

  // Whatever may take long and changes nothing that anybody sees, such as opening or creating a
  // file (which stays if the transaction fails). Guests go on meanwhile. The effects of earlier
  // actions are not there yet.
  virtual absl::Status Open() { return absl::OkStatus(); }

  // Checks and makes the change: later actions see it. Runs at the instant, with the guests'
  // requests held back, so it does no I/O that it can avoid. On an error nothing is left behind:
  // Undo is not called.
  virtual absl::Status Prepare() = 0;

  // Exactly one of Commit and Undo follows a successful Prepare. Neither can fail.
  virtual void Commit() {}
  virtual void Undo() {}

  // After the instant, of a transaction that succeeded: the guests go on already.
  virtual void AfterInstant() {}
};

// The instant of a transaction: the time from Begin to End, in which no guest request is in flight
// on any node that the transaction is about.
class Instant {
 public:
  virtual ~Instant() = default;
  virtual void Begin() = 0;
  virtual void End() = 0;
};

// Opens all, then at the instant prepares in order. If all succeed they are committed in order;
// otherwise those prepared are undone in reverse order, and the first failure is returned.
absl::Status Run(const std::vector<std::unique_ptr<Action>>& actions, Instant& instant);

}  // namespace tidemark::transaction

#endif  // ENGINE_TRANSACTION_TRANSACTION_H_
