// The life of a connection after its handshake: requests in, replies out, many in flight. Run is
// called once, on the connection's thread; Disconnect from any thread.
#ifndef ENGINE_NBD_TRANSMISSION_H_
#define ENGINE_NBD_TRANSMISSION_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/nbd/budgets.h"
#include "engine/nbd/cost_estimate.h"
#include "engine/nbd/handler.h"
#include "engine/nbd/receiver.h"
#include "engine/nbd/socket.h"
#include "engine/nbd/spin_policy.h"
#include "engine/nbd/stall_watch.h"

namespace tidemark::nbd {

class Transmission final : public StallWatch::Watched {
 public:
  // All outlive the transmission.
  Transmission(Socket& socket, const Session& session, std::shared_ptr<MemoryPool> pool,
               StallWatch& stall_watch, const Budgets& budgets);
  ~Transmission() override;

  // Serves the client until it has left, was lost, or was disconnected. When it returns, no request
  // is in flight.
  void Run();

  // Ends it: requests in flight run to their end and are answered if the client takes the answers;
  // those not yet begun are dropped.
  void Disconnect();

  bool CheckForStall() override;

 private:
  struct Answer {
    Reply reply;
    size_t held_bytes;
    Budget::Loan loan;
  };

  // What a thread of the connection may do next.
  enum class Duty { kRun, kSend, kReceive, kWait, kLeave };

  // Until there is nothing more to do for this thread.
  void Work(bool is_helper);
  Duty NextDuty() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasRoomForNext() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // These take what they need of the budget, or a place in line for it.
  bool CanRun() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool CanReceive() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AwaitsMemory() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return run_place_.in_line() || receive_place_.in_line();
  }
  bool ShouldSendFirst() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsOver() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Each lets go of the lock while it is at it.
  void RunOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendAnswers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReceiveRequests() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayRetire() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeHelper() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What was not begun is dropped, and nothing more is taken.
  void EndRequests() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropPending() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  Socket& socket_;
  StallWatch& stall_watch_;
  const Budgets budgets_;
  const Handler handler_;

  // Used by the thread that receives, alone.
  Receiver receiver_;
  SpinPolicy spin_policy_;
  std::deque<Request> received_;
  // Used by the thread that sends, alone.
  std::vector<Answer> leaving_;
  std::vector<iovec> parts_;

  mutable Mutex mutex_;
  CondVar changed_;
  // Requests received and not begun, in order.
  std::deque<Request> pending_ ABSL_GUARDED_BY(mutex_);
  // Answers that nobody sends yet, and since when.
  std::vector<Answer> unsent_ ABSL_GUARDED_BY(mutex_);
  size_t unsent_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration unsent_since_ ABSL_GUARDED_BY(mutex_);
  // Begun and not sent: at most kRequestsInFlightMax.
  int in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  // What the budget has lent for the next request, and for the data of the next large write; the
  // places in line until it does. `watch_noticed_`: the watch knows that somebody is in line.
  Budget::Loan run_loan_ ABSL_GUARDED_BY(mutex_);
  Budget::Place run_place_ ABSL_GUARDED_BY(mutex_);
  size_t receive_wanted_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  Budget::Loan receive_loan_ ABSL_GUARDED_BY(mutex_);
  Budget::Place receive_place_ ABSL_GUARDED_BY(mutex_);
  Budget::Place helper_place_ ABSL_GUARDED_BY(mutex_);
  bool watch_noticed_ ABSL_GUARDED_BY(mutex_) = false;
  // Memory of what is in flight, and of the data of pending writes.
  size_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool receiving_ ABSL_GUARDED_BY(mutex_) = false;
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_requests_ ABSL_GUARDED_BY(mutex_) = false;
  // The client takes no answers any more.
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  CostEstimate costs_ ABSL_GUARDED_BY(mutex_);
  // Above zero if the client has lately had several requests in flight.
  int pipelining_ ABSL_GUARDED_BY(mutex_) = 0;
  // For stalls: requests completed in all, and how many there were at the last check.
  uint64_t completed_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t completed_count_checked_ ABSL_GUARDED_BY(mutex_) = 0;
  // All threads were stuck at the last check, and nothing has completed since: then every request
  // counts as a slow one.
  bool stalled_ ABSL_GUARDED_BY(mutex_) = false;
  int idle_threads_ ABSL_GUARDED_BY(mutex_) = 0;
  // Those that have left are joined with the rest.
  std::vector<std::thread> helpers_ ABSL_GUARDED_BY(mutex_);
  int helper_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_TRANSMISSION_H_
