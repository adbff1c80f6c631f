// From the address to the first command: look-up, connect, greeting, qmp_capabilities.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/connection.h"
#include "engine/base/error.h"

namespace tidemark::qmp {

void Connection::Start() {
  if (state() != State::kConnecting) return;
  SetTimer(limits_.connect_max, &Connection::OnHandshakeTimeout);
  if (!NeedsLookup(address_)) return TryTargets(Lookup(address_));
  resolver_.Post([self = shared_from_this()] {
    if (self->state() != State::kConnecting) return;  // It took too long to come to this.
    self->loop_.Post([self, targets = Lookup(self->address_)]() mutable {
      self->TryTargets(std::move(targets));
    });
  });
}

void Connection::SetTimer(absl::Duration delay, void (Connection::*method)()) {
  if (timer_ != 0) loop_.Cancel(timer_);
  timer_ = 0;
  if (delay == absl::InfiniteDuration()) return;
  timer_ = loop_.RunAfter(delay, [self = shared_from_this(), method] { ((*self).*method)(); });
}

void Connection::TryTargets(absl::StatusOr<std::vector<SocketAddress>> targets) {
  if (!targets.ok()) return Close(targets.status());
  targets_ = *std::move(targets);
  TryNextTarget();
}

void Connection::TryNextTarget() {
  absl::Status failure;
  while (next_target_ < targets_.size()) {
    if (state() != State::kConnecting) return;
    const absl::StatusOr<Connecting> connecting = StartConnect(targets_[next_target_++], address_);
    if (!connecting.ok()) {
      failure = connecting.status();
      continue;
    }
    {
      MutexLock lock(&mutex_);
      socket_ = connecting->fd;
      watch_ = loop_.Watch(socket_, connecting->done ? EPOLLIN : EPOLLOUT,
                           [self = shared_from_this()](uint32_t ready) { self->OnSocket(ready); });
    }
    if (connecting->done) OnConnected();
    return;
  }
  Close(failure);
}

// The socket is connected, or has failed.
void Connection::OnConnecting() {
  int socket;
  IoLoop::WatchId watch;
  {
    MutexLock lock(&mutex_);
    socket = socket_;
    watch = watch_;
  }
  const absl::Status connected = FinishConnect(socket, address_);
  if (connected.ok()) return OnConnected();
  loop_.Unwatch(watch);
  {
    MutexLock lock(&mutex_);
    socket_ = -1;
    watch_ = 0;
  }
  close(socket);
  if (next_target_ == targets_.size()) return Close(connected);
  TryNextTarget();
}

void Connection::OnConnected() {
  {
    MutexLock lock(&mutex_);
    if (state_ != State::kConnecting) return;
    state_ = State::kGreeting;
    peer_ = std::make_shared<const PeerProcess>(socket_);
    UpdateInterest();
  }
  SetTimer(limits_.handshake_max, &Connection::OnHandshakeTimeout);
}

void Connection::OnHandshakeTimeout() {
  switch (state()) {
    case State::kConnecting:
      return End("timeout", absl::StrCat("did not accept us within ",
                                         absl::FormatDuration(limits_.connect_max)));
    case State::kGreeting:
      return End("busy",
                 absl::StrCat("did not greet within ", absl::FormatDuration(limits_.handshake_max),
                              ": another client may hold it"));
    case State::kNegotiating:
      return End("timeout", absl::StrCat("did not answer qmp_capabilities within ",
                                         absl::FormatDuration(limits_.handshake_max)));
    case State::kReady:
    case State::kClosing:
    case State::kClosed:
      return;
  }
}

void Connection::OnGreeting(Greeting greeting) {
  greeting_ = std::move(greeting);
  {
    MutexLock lock(&mutex_);
    if (state_ != State::kGreeting) return;
    state_ = State::kNegotiating;
    greeting_.peer_pid = peer_->pid();
  }
  Send("qmp_capabilities", Json(),
       [self = shared_from_this()](const Reply& reply) { self->OnNegotiated(reply); });
}

void Connection::OnNegotiated(const Reply& reply) {
  if (!reply.status.ok()) return;  // Closed meanwhile.
  if (reply.error.has_value()) {
    return End("garbage", absl::StrCat("refused qmp_capabilities: ", Shown(reply.error->desc)));
  }
  {
    MutexLock lock(&mutex_);
    if (state_ != State::kNegotiating) return;
    state_ = State::kReady;
    ArmTick(half_since_.has_value() ? limits_.silence_max : limits_.keepalive_interval);
  }
  if (const auto listener = listener_.lock()) listener->OnReady(greeting_);
  for (Event& event : std::exchange(early_events_, {})) OnEvent(std::move(event));
}

}  // namespace tidemark::qmp
