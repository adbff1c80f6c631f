// Who does what: the loop's thread receives, cuts lines and handles the short ones. A long line
// goes to a worker; meanwhile the socket is not read, so nothing can overtake it and nothing piles
// up here. Any thread sends. The end is always made by the loop's thread, in Finish, when no worker
// has a line: End and Close only leave the reason and ask for it, and from then on no line is
// handled.
//
// What ends a connection is told without a byte of what the peer said: whoever may register
// instances would otherwise read what any port says that this process reaches.
//
// While it is not closed the loop owns the connection through its watch, its timers and its posted
// tasks; callers own a handle whose going away is a Close.
#include "adapters/qmp/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"

namespace tidemark::qmp {
namespace {

// Ids of three digits.
constexpr uint64_t kShortIdsMax = 999;

// Behind a SHUTDOWN these say that the virtual machine stays.
constexpr absl::string_view kStayEvents[] = {"STOP", "RESUME", "RESET"};

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace

std::shared_ptr<Connection> Connection::Open(IoLoop& loop, Executor& workers,
                                             const MonitorAddress& address,
                                             std::weak_ptr<Listener> listener,
                                             const ConnectionLimits& limits, LookupPool* lookups) {
  std::shared_ptr<Connection> self(
      new Connection(loop, workers, address, std::move(listener), limits, lookups));
  loop.Post([self] { self->Start(); });
  Connection* const handle = self.get();
  return std::shared_ptr<Connection>(handle, [self = std::move(self)](Connection*) mutable {
    self->End("local", "is not needed any more");
    self.reset();
  });
}

Connection::Connection(IoLoop& loop, Executor& workers, const MonitorAddress& address,
                       std::weak_ptr<Listener> listener, const ConnectionLimits& limits,
                       LookupPool* lookups)
    : loop_(loop),
      workers_(workers),
      lookups_(lookups),
      address_(address),
      listener_(std::move(listener)),
      limits_(limits) {}

Connection::~Connection() {
  // Still open only if the loop ended first.
  if (socket_ >= 0) close(socket_);
}

Connection::State Connection::state() const {
  MutexLock lock(&mutex_);
  return state_;
}

bool Connection::peer_has_exited() const {
  std::shared_ptr<const PeerProcess> peer;
  {
    MutexLock lock(&mutex_);
    peer = peer_;
  }
  return peer != nullptr && peer->HasExited();
}

bool Connection::peer_is_watched() const {
  MutexLock lock(&mutex_);
  return peer_ != nullptr && peer_->is_watched();
}

// --- Sending ---

void Connection::Execute(absl::string_view command, Json arguments,
                         std::function<void(Reply)> done) {
  switch (state()) {
    case State::kReady:
    case State::kClosing:
    case State::kClosed:
      return Send(command, arguments, std::move(done));
    case State::kConnecting:
    case State::kGreeting:
    case State::kNegotiating:
      return Refuse(Error(Reason::kConnectionLost,
                          absl::StrCat("cannot send ", command, ": the monitor ",
                                       address_.ToString(), " is not ready"),
                          {{"outcome", "not-sent"}}),
                    std::move(done));
  }
}

void Connection::ExecuteOwn(absl::string_view command, Json arguments,
                            std::function<void(Reply)> done) {
  if (!is_going_) return Execute(command, std::move(arguments), std::move(done));
  Refuse(Error(Reason::kConnectionLost,
               absl::StrCat(command, " is not sent to the monitor ", address_.ToString(),
                            ", for QEMU is shutting down"),
               {{"outcome", "not-sent"}}),
         std::move(done));
}

// Round and round, for a short id costs QEMU less (CommandLine), and one that has just been
// answered is not the next.
uint64_t Connection::NextId() const {
  const uint64_t end = waiting_.size() < kShortIdsMax / 2 ? kShortIdsMax : 2 * kCommandsWaitingMax;
  uint64_t id = last_id_ % end + 1;
  while (waiting_.contains(id)) id = id % end + 1;
  return id;
}

void Connection::Refuse(absl::Status why, std::function<void(Reply)> done) {
  loop_.Post([why = std::move(why), done = std::move(done)] { done(Reply{why}); });
}

void Connection::Send(absl::string_view command, const Json& arguments,
                      std::function<void(Reply)> done) {
  absl::StatusOr<std::string> line = CommandLine(command, arguments);
  if (!line.ok()) return Refuse(line.status(), std::move(done));

  absl::Status refusal;
  {
    MutexLock lock(&mutex_);
    if (state_ == State::kClosed) {
      refusal = Error(Reason::kConnectionLost,
                      absl::StrCat("cannot send ", command, ": ", why_.message()),
                      {{"outcome", "not-sent"}});
    } else if (waiting_.size() >= kCommandsWaitingMax ||
               out_.kept_bytes() + line->size() > kSendBytesMax) {
      refusal = Error(Reason::kLimitReached,
                      absl::StrCat("cannot send ", command, " to the monitor ", address_.ToString(),
                                   ": ", waiting_.size(), " commands with ", out_.kept_bytes(),
                                   " unsent bytes wait already"));
    } else {
      if (waiting_.empty()) {
        last_heard_ = SystemClock().Elapsed();
        if (state_ == State::kReady) ArmTick(limits_.silence_max);
      }
      last_id_ = NextId();
      absl::StrAppend(&*line, EndOfLine(last_id_));
      waiting_.emplace(last_id_,
                       Waiting{std::string(command), std::move(done), out_.given_total()});
      if (state_ == State::kClosing || broken_ != 0) return;
      broken_ = out_.Send(socket_, *line);
      if (out_.kept_bytes() > 0) UpdateInterest();
      if (broken_ != 0) loop_.Post([self = shared_from_this()] { self->DrainBroken(); });
    }
  }
  if (!refusal.ok()) Refuse(std::move(refusal), std::move(done));
}

void Connection::Flush() {
  bool is_broken;
  {
    MutexLock lock(&mutex_);
    if (socket_ < 0 || broken_ != 0) return;
    broken_ = out_.Flush(socket_);
    is_broken = broken_ != 0;
    UpdateInterest();
  }
  if (is_broken) DrainBroken();
}

void Connection::UpdateInterest() {
  if (watch_ == 0) return;
  const bool reads = !worker_has_line_ && state_ != State::kClosing;
  const bool sends = out_.kept_bytes() > 0 && broken_ == 0;
  loop_.SetInterest(watch_, (reads ? uint32_t{EPOLLIN} : 0) | (sends ? uint32_t{EPOLLOUT} : 0));
}

// The peer takes no commands, but what it sent before is still ours.
void Connection::DrainBroken() {
  int error;
  {
    MutexLock lock(&mutex_);
    if (worker_has_line_ || broken_ == 0) return;  // Resume comes back to it.
    error = broken_;
  }
  const Drained drained = Receive();
  if (drained == Drained::kNo) {
    // Others come in between, or a peer that never stops writing would have the loop to itself.
    loop_.Post([self = shared_from_this()] { self->DrainBroken(); });
  } else if (drained == Drained::kYes) {
    End("peer-closed", absl::StrCat("takes no commands: ", strerror(error)));
  }
}

// --- Receiving ---

void Connection::OnSocket(uint32_t ready) {
  if (state() == State::kConnecting) return OnConnecting();
  if ((ready & EPOLLOUT) != 0) Flush();
  if ((ready & ~EPOLLOUT) != 0) Receive();
}

Connection::Drained Connection::Receive() {
  int socket;
  {
    MutexLock lock(&mutex_);
    if (worker_has_line_ || state_ == State::kClosing || state_ == State::kClosed) {
      return Drained::kStopped;
    }
    socket = socket_;
  }
  char bytes[kReceiveBytes];
  for (int i = 0; i < kReceivesPerTurn; ++i) {
    const ssize_t count = recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Drained::kYes;
    if (count <= 0) {
      End("peer-closed", count < 0 ? absl::StrCat("failed: ", strerror(errno))
                         : reader_.half_bytes() > 0
                             ? absl::StrCat("was closed by the peer in the middle of a value, ",
                                            reader_.half_bytes(), " bytes into it")
                             : "was closed by the peer");
      return Drained::kStopped;
    }
    const bool goes_on = Consume(absl::string_view(bytes, count));
    {
      MutexLock lock(&mutex_);
      // Commands wait for answers; a peer that only tells events is silent all the same.
      if (waiting_.empty()) last_heard_ = SystemClock().Elapsed();
    }
    if (!goes_on) return Drained::kStopped;
    if (static_cast<size_t>(count) < sizeof(bytes)) return Drained::kYes;
  }
  return Drained::kNo;
}

bool Connection::Consume(absl::string_view bytes) {
  const uint64_t count = reader_.count();
  for (;;) {
    const auto line = reader_.Next(&bytes);
    if (!line.ok()) {
      End("garbage", absl::StrCat("sent ", line.status().message()));
      return false;
    }
    if (!line->has_value()) {
      NoteHalfValue(/*is_new=*/reader_.count() != count);
      return true;
    }
    if ((*line)->size() > kLoopLineBytesMax) {
      rest_ = std::string(bytes);
      GiveToWorker(reader_.Take());
      return false;
    }
    HandleLine(**line);
    if (state() == State::kClosing) return false;
  }
}

void Connection::NoteHalfValue(bool is_new) {
  MutexLock lock(&mutex_);
  if (reader_.half_bytes() == 0) {
    half_since_ = absl::nullopt;
  } else if (is_new || !half_since_.has_value()) {
    half_since_ = SystemClock().Elapsed();
    if (state_ == State::kReady) ArmTick(limits_.silence_max);
  }
}

void Connection::GiveToWorker(std::string line) {
  {
    MutexLock lock(&mutex_);
    worker_has_line_ = true;
    half_since_ = absl::nullopt;
    UpdateInterest();
  }
  workers_.Post([self = shared_from_this(), line = std::move(line)]() mutable {
    if (self->state() != State::kClosing) self->HandleLine(line);
    std::string().swap(line);
    self->loop_.Post([self] { self->Resume(); });
  });
}

void Connection::Resume() {
  bool is_closing;
  bool is_broken;
  {
    MutexLock lock(&mutex_);
    worker_has_line_ = false;
    // Bytes may have waited in the socket all the while.
    last_heard_ = SystemClock().Elapsed();
    is_closing = state_ == State::kClosing;
    is_broken = broken_ != 0;
    UpdateInterest();
  }
  if (is_closing) return Finish();
  const std::string rest = std::exchange(rest_, std::string());
  if (Consume(rest) && is_broken) DrainBroken();
}

// --- Lines ---

void Connection::HandleLine(absl::string_view line) {
  absl::StatusOr<Message> message = ReadMessage(line);
  if (!message.ok()) {
    return End("garbage", absl::StrCat("sent ", message.status().message()));
  }
  // A QEMU that is just starting may tell events before it greets.
  if (!absl::holds_alternative<Event>(*message) &&
      (state() == State::kGreeting) != absl::holds_alternative<Greeting>(*message)) {
    return End("garbage", "sent something else than was its turn");
  }
  if (absl::holds_alternative<Event>(*message) && line.size() > kEventBytesMax) {
    ++surprise_count_;
    return;
  }
  absl::visit(Overloaded{[this](Greeting& greeting) { OnGreeting(std::move(greeting)); },
                         [this](Event& event) { OnEvent(std::move(event)); },
                         [this](Answer& answer) { OnAnswer(std::move(answer)); }},
              *message);
}

void Connection::OnEvent(Event event) {
  switch (state()) {
    case State::kReady:
      return Tell(std::move(event));
    case State::kGreeting:
    case State::kNegotiating:
      if (early_events_.size() >= kEarlyEventsMax) {
        return End("garbage", "sent too many events before it was ready");
      }
      early_events_.push_back(std::move(event));
      return;
    default:
      return;  // Closed by a callback.
  }
}

void Connection::Tell(Event event) {
  const std::string& name = *StringMember(event.object, "event");
  if (name == "SHUTDOWN") is_going_ = true;
  if (std::find(std::begin(kStayEvents), std::end(kStayEvents), name) != std::end(kStayEvents)) {
    is_going_ = false;
  }
  if (const auto listener = listener_.lock()) listener->OnEvent(std::move(event.object));
}

void Connection::OnAnswer(Answer answer) {
  std::function<void(Reply)> done;
  {
    MutexLock lock(&mutex_);
    if (state_ == State::kClosing) return;  // All that wait are told so together.
    const auto waiting = answer.id.has_value() ? waiting_.find(*answer.id) : waiting_.end();
    if (waiting != waiting_.end()) {
      done = std::move(waiting->second.done);
      waiting_.erase(waiting);
      last_heard_ = SystemClock().Elapsed();
    }
  }
  if (done == nullptr) {
    ++surprise_count_;
    return;
  }
  done(std::move(answer.reply));
}

// --- Time limits ---

// One at a time, the earliest that is needed: Tick finds out itself when the next one is due.
void Connection::ArmTick(absl::Duration delay) {
  if (delay == absl::InfiniteDuration()) return;
  const absl::Duration due = SystemClock().Elapsed() + delay;
  if (tick_ != 0 && tick_due_ <= due) return;
  if (tick_ != 0) loop_.Cancel(tick_);
  tick_due_ = due;
  tick_ = loop_.RunAfter(delay, [self = shared_from_this()] { self->Tick(); });
}

void Connection::Tick() {
  // What has come but was not seen yet is no silence, even if this whole process was stopped.
  Receive();
  bool is_silent = false;
  bool is_half = false;
  {
    MutexLock lock(&mutex_);
    tick_ = 0;
    if (state_ != State::kReady) return;
    const absl::Duration now = SystemClock().Elapsed();
    // This process was stopped, or is slow: what has come may not all be read yet.
    const bool is_late = now - tick_due_ > kTickLateMax;
    if (worker_has_line_ || is_late) last_heard_ = now;
    if (half_since_.has_value() && is_late) half_since_ = now;
    is_half = half_since_.has_value();
    const bool is_idle = waiting_.empty() && !is_half;
    const absl::Duration since = is_half ? *half_since_ : last_heard_;
    const absl::Duration limit = is_idle ? limits_.keepalive_interval : limits_.silence_max;
    const absl::Duration left = since + limit - now;
    if (left > absl::ZeroDuration()) return ArmTick(std::min(left, limits_.keepalive_interval));
    is_silent = !is_idle;
    if (!is_silent) ArmTick(limits_.keepalive_interval);
  }
  if (is_silent) {
    End("silent", absl::StrCat(is_half ? "has not finished a value for " : "answered nothing for ",
                               absl::FormatDuration(limits_.silence_max),
                               is_half ? "" : " while commands waited"));
  } else if (!is_going_) {
    Send("query-version", Json(), [](const Reply&) {});
  }
}

// --- The end ---

void Connection::End(absl::string_view cause, absl::string_view what) {
  const State at = state();
  const bool was_ready = at == State::kReady || at == State::kClosing || at == State::kClosed;
  Close(Error(was_ready ? Reason::kConnectionLost : Reason::kInstanceUnreachable,
              absl::StrCat("the monitor ", address_.ToString(), " ", what), {{"cause", cause}}));
}

void Connection::Close(absl::Status why) {
  {
    MutexLock lock(&mutex_);
    if (state_ == State::kClosing || state_ == State::kClosed) return;
    state_ = State::kClosing;
    why_ = std::move(why);
    UpdateInterest();
  }
  loop_.Post([self = shared_from_this()] { self->Finish(); });
}

void Connection::Finish() {
  std::map<uint64_t, Waiting> waiting;
  uint64_t sent;
  absl::Status why;
  IoLoop::WatchId watch;
  IoLoop::TimerId tick;
  int socket;
  {
    MutexLock lock(&mutex_);
    if (worker_has_line_ || state_ == State::kClosed) return;  // Resume comes back, or has been.
    state_ = State::kClosed;
    waiting.swap(waiting_);
    sent = out_.sent_total();
    out_ = SendBuffer();
    why = why_;
    watch = std::exchange(watch_, 0);
    tick = std::exchange(tick_, 0);
    socket = std::exchange(socket_, -1);
  }
  if (timer_ != 0) loop_.Cancel(timer_);
  if (tick != 0) loop_.Cancel(tick);
  if (watch != 0) loop_.Unwatch(watch);
  if (socket >= 0) close(socket);
  reader_ = ValueReader();
  std::string().swap(rest_);

  std::vector<Waiting> in_order;
  for (auto& [id, command] : waiting) in_order.push_back(std::move(command));
  std::sort(in_order.begin(), in_order.end(),
            [](const Waiting& a, const Waiting& b) { return a.begin < b.begin; });
  for (Waiting& command : in_order) {
    const bool may_have_left = sent > command.begin;
    command.done(Reply{Error(
        Reason::kConnectionLost,
        absl::StrCat(command.command,
                     may_have_left ? " may or may not have been carried out: " : " was not sent: ",
                     why.message()),
        {{"outcome", may_have_left ? "unknown" : "not-sent"}})});
  }
  if (const auto listener = listener_.lock()) listener->OnClosed(why);
}

}  // namespace tidemark::qmp
