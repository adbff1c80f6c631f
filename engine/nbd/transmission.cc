// A connection has one thread that is always there, and up to kThreadsPerConnectionMax - 1 helpers,
// started when first needed. They are all alike: whoever is free takes the duty that is next.
//
//       socket --receive--> pending_ --run--> unsent_ --send--> socket
//
// - At most one thread receives and one sends; any number run requests.
// - A thread that finishes a duty looks for the next by itself, and one that waits is woken only
//   by WakeHelper. So the quiet case, fast requests, is one thread that receives a handful, runs
//   them one by one, and sends the replies with one call: nobody is woken for them, which would
//   cost more than they do.
// - Helpers come in when requests of a kind have turned out to be slow (CostEstimate), each waking
//   the next while there is more to do, or when all threads have been stuck for longer than
//   kStallCheckInterval (StallWatch). Then one of them receives while others wait for disks, gates
//   and captures, so a request that blocks holds up no other.
// - Nothing is lost by not waking: a thread waits only if another one is at a duty that will bring
//   it back to look (running, sending, receiving), because NextDuty finds no work it could do.
// - What a client makes us hold is bounded: pending_ by one block of requests, in_flight_ and
//   held_bytes_ by their limits. When they are reached nobody receives, and the client waits.
// - What all clients make us hold is bounded, too: requests that need much memory are run, and data
//   is received for them, only with a loan of the server's budget. Who must wait for one stands in
//   line and looks again when the watch says so, every kStallCheckInterval; threads never block in
//   it, so what has been read already can be sent. Helpers are of a budget as well: an idle one
//   retires if another connection is in line for a helper.
//
// A FLUSH needs no order among these: it covers the writes that were answered before it was sent,
// and those have all returned from the storage.
#include "engine/nbd/transmission.h"

#include <system_error>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

Transmission::Transmission(Socket& socket, const Session& session, std::shared_ptr<MemoryPool> pool,
                           StallWatch& stall_watch, const Budgets& budgets)
    : socket_(socket),
      stall_watch_(stall_watch),
      budgets_(budgets),
      handler_(session, pool),
      receiver_(socket, pool) {
  socket_.GiveUpIfStalled(budgets_.memory, budgets_.stalled_client_max);
}

Transmission::~Transmission() {
  MutexLock lock(&mutex_);
  CHECK(running_ == 0 && helpers_.empty());
}

void Transmission::Run() {
  stall_watch_.Add(this);
  Work(/*is_helper=*/false);
  stall_watch_.Remove(this);
  std::vector<std::thread> helpers;
  {
    MutexLock lock(&mutex_);
    helpers.swap(helpers_);
  }
  for (std::thread& helper : helpers) helper.join();
}

void Transmission::Disconnect() {
  {
    MutexLock lock(&mutex_);
    EndRequests();
  }
  socket_.ShutdownReceive();
}

void Transmission::Work(bool is_helper) {
  MutexLock lock(&mutex_);
  for (;;) {
    switch (NextDuty()) {
      case Duty::kRun:
        RunOne();
        break;
      case Duty::kSend:
        SendAnswers();
        break;
      case Duty::kReceive:
        ReceiveRequests();
        break;
      case Duty::kWait:
        if (is_helper && MayRetire()) {
          --helper_count_;
          return;
        }
        Wait();
        break;
      case Duty::kLeave:
        changed_.SignalAll();
        return;
    }
  }
}

void Transmission::Wait() {
  if (AwaitsMemory() && !watch_noticed_) {
    watch_noticed_ = true;
    mutex_.Unlock();
    stall_watch_.Notice();
    mutex_.Lock();
    return;  // What there is to do may be another thing by now.
  }
  idle_threads_++;
  changed_.Wait(&mutex_);
  idle_threads_--;
}

// Another connection has no helper at all, and this one has one with nothing to do.
bool Transmission::MayRetire() const { return budgets_.helpers->contended(); }

Transmission::Duty Transmission::NextDuty() {
  if (IsOver()) return Duty::kLeave;
  const bool can_send = !unsent_.empty() && !sending_;
  if (can_send && ShouldSendFirst()) return Duty::kSend;
  if (CanRun()) return Duty::kRun;
  if (can_send) return Duty::kSend;
  if (CanReceive()) return Duty::kReceive;
  return Duty::kWait;
}

bool Transmission::IsOver() const {
  return no_more_requests_ && pending_.empty() && in_flight_ == 0 && !receiving_;
}

bool Transmission::CanRun() {
  if (pending_.empty() || !HasRoomForNext()) return false;
  const Request& next = pending_.front();
  const size_t more = next.command == Command::kWrite ? 0 : Handler::MemoryNeeded(next);
  if (more <= kUnbudgetedBytesMax || run_loan_) return true;
  run_loan_ = budgets_.memory->TakeInTurn(more, &run_place_);
  return static_cast<bool>(run_loan_);
}

bool Transmission::HasRoomForNext() const {
  if (in_flight_ == 0) return true;  // One is always admitted.
  if (in_flight_ >= kRequestsInFlightMax) return false;
  const Request& next = pending_.front();
  const size_t more = next.command == Command::kWrite ? 0 : Handler::MemoryNeeded(next);
  return held_bytes_ + more <= kBytesInFlightMax;
}

bool Transmission::CanReceive() {
  if (receiving_ || no_more_requests_ || held_bytes_ > kBytesInFlightMax ||
      pending_.size() + static_cast<size_t>(in_flight_) >= size_t{kRequestsInFlightMax}) {
    return false;
  }
  // Whoever received now would not be there to run the next request when its memory has come.
  if (run_place_.in_line()) return false;
  if (receive_wanted_bytes_ == 0 || receive_loan_) return true;
  receive_loan_ = budgets_.memory->TakeInTurn(receive_wanted_bytes_, &receive_place_);
  return static_cast<bool>(receive_loan_);
}

bool Transmission::ShouldSendFirst() const {
  return unsent_.size() >= kRepliesPerSend || unsent_bytes_ >= kBytesPerSend ||
         SystemClock().Elapsed() - unsent_since_ >= kInlineCostMax;
}

void Transmission::RunOne() {
  Request request = std::move(pending_.front());
  pending_.pop_front();
  running_++;
  in_flight_++;
  const size_t held_bytes = Handler::MemoryNeeded(request);
  Budget::Loan loan;
  if (request.command != Command::kWrite) {
    held_bytes_ += held_bytes;
    if (held_bytes > kUnbudgetedBytesMax) loan = std::move(run_loan_);
  }
  if (stalled_ || costs_.IsSlow(request)) {
    const bool others_can_run = CanRun();
    const bool others_may_come = pipelining_ > 0 && CanReceive();
    if (others_can_run || others_may_come) WakeHelper();
  }
  mutex_.Unlock();

  stall_watch_.Notice();
  const absl::Duration began = SystemClock().Elapsed();
  Reply reply = handler_.Run(request, [this] { return socket_.PeerIsGone(); });
  const absl::Duration ended = SystemClock().Elapsed();
  request.memory.Release();
  request.loan.Release();
  request.block.reset();

  mutex_.Lock();
  running_--;
  completed_count_++;
  stalled_ = false;
  costs_.Record(request, ended - began);
  if (lost_) {
    in_flight_--;
    held_bytes_ -= held_bytes;
    return;
  }
  if (unsent_.empty()) unsent_since_ = ended;
  unsent_bytes_ += reply.size_bytes();
  unsent_.push_back({std::move(reply), held_bytes, std::move(loan)});
}

void Transmission::SendAnswers() {
  leaving_.swap(unsent_);
  unsent_bytes_ = 0;
  sending_ = true;
  mutex_.Unlock();

  size_t released_bytes = 0;
  for (Answer& answer : leaving_) {
    answer.reply.AppendParts(&parts_);
    released_bytes += answer.held_bytes;
  }
  const absl::Status sent = socket_.SendAll(absl::MakeSpan(parts_));
  const int released_count = static_cast<int>(leaving_.size());
  leaving_.clear();
  parts_.clear();
  if (!sent.ok()) socket_.Shutdown();

  mutex_.Lock();
  sending_ = false;
  in_flight_ -= released_count;
  held_bytes_ -= released_bytes;
  if (sent.ok()) return;
  lost_ = true;
  no_more_requests_ = true;
  DropPending();
  for (const Answer& answer : unsent_) held_bytes_ -= answer.held_bytes;
  in_flight_ -= static_cast<int>(unsent_.size());
  unsent_.clear();
}

void Transmission::ReceiveRequests() {
  receiving_ = true;
  const bool alone = in_flight_ == 0;
  if (receive_loan_) receiver_.Grant(std::move(receive_loan_));
  mutex_.Unlock();

  const absl::Duration began = SystemClock().Elapsed();
  const absl::Status status =
      receiver_.Receive(alone ? spin_policy_.spin() : absl::ZeroDuration(), &received_);
  spin_policy_.Record(SystemClock().Elapsed() - began);

  mutex_.Lock();
  receiving_ = false;
  receive_wanted_bytes_ = receiver_.wanted_bytes();
  const bool dropped = no_more_requests_;  // Disconnected meanwhile.
  if (!status.ok()) no_more_requests_ = true;
  if (dropped) {
    received_.clear();
    return;
  }
  if (received_.size() > 1 || in_flight_ > 0) {
    pipelining_ = kPipeliningMemory;
  } else if (pipelining_ > 0) {
    pipelining_--;
  }
  for (Request& request : received_) {
    if (request.command == Command::kWrite) held_bytes_ += Handler::MemoryNeeded(request);
    pending_.push_back(std::move(request));
  }
  received_.clear();
}

bool Transmission::CheckForStall() {
  MutexLock lock(&mutex_);
  if (AwaitsMemory() && socket_.PeerIsGone()) EndRequests();
  const bool awaits_memory = AwaitsMemory();
  if (awaits_memory || MayRetire()) {
    if (idle_threads_ > 0) changed_.SignalAll();
  }
  watch_noticed_ = watch_noticed_ && awaits_memory;
  if (running_ == 0) {
    helper_place_.Leave();
    return awaits_memory;
  }
  const bool stuck = completed_count_ == completed_count_checked_;
  completed_count_checked_ = completed_count_;
  if (!stuck) helper_place_.Leave();
  if (stuck && (CanRun() || CanReceive())) {
    stalled_ = true;
    WakeHelper();
  }
  return true;
}

void Transmission::WakeHelper() {
  if (idle_threads_ > 0) {
    changed_.Signal();
  } else if (helper_count_ + 1 < kThreadsPerConnectionMax && helpers_.size() < kHelpersEverMax) {
    // Only who has none stands in line: others can do with what they have.
    Budget::Loan loan = helper_count_ == 0 ? budgets_.helpers->TakeInTurn(1, &helper_place_)
                                           : budgets_.helpers->TryTake(1);
    if (!loan) return;
    try {
      helpers_.emplace_back([this, loan = std::move(loan)] { Work(/*is_helper=*/true); });
      ++helper_count_;
    } catch (const std::system_error&) {
      // No thread to be had: those that are there will come to it.
    }
  }
}

void Transmission::EndRequests() {
  no_more_requests_ = true;
  DropPending();
  // One that stood in line for memory is in it no longer: nobody else would wake it.
  changed_.SignalAll();
}

void Transmission::DropPending() {
  for (const Request& request : pending_) {
    if (request.command == Command::kWrite) held_bytes_ -= Handler::MemoryNeeded(request);
  }
  pending_.clear();
  run_loan_.Release();
  run_place_.Leave();
  receive_place_.Leave();
  helper_place_.Leave();
}

}  // namespace tidemark::nbd
