// From the address to the first command: look-up, connect, greeting, qmp_capabilities.
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/connection.h"
#include "engine/base/error.h"

namespace tidemark::qmp {

namespace {

// The first step of a connect that may be late: what nobody has taken is closed.
struct Begun {
  ~Begun() {
    if (connecting.ok()) close(connecting->fd);
  }
  absl::StatusOr<Connecting> Take() {
    return std::exchange(connecting, absl::CancelledError("taken"));
  }

  absl::StatusOr<Connecting> connecting = absl::CancelledError("not begun");
};

}  // namespace

void Connection::Start() {
  if (state() != State::kConnecting) return;
  SetTimer(limits_.connect_max, &Connection::OnHandshakeTimeout);
  if (absl::holds_alternative<UnixAddress>(address_.value())) return ConnectByName();
  if (!NeedsLookup(address_)) return TryTargets(Lookup(address_));
  const auto found =
      std::make_shared<absl::StatusOr<std::vector<SocketAddress>>>(absl::CancelledError(""));
  LookUp([found, address = address_] { *found = Lookup(address); },
         [this, found] { TryTargets(std::move(*found)); });
}

// Runs `look`, which may hang and owns what it uses, and then, if this still wants to connect,
// `then` on the loop.
void Connection::LookUp(std::function<void()> look, std::function<void()> then) {
  auto done = [self = shared_from_this(), then = std::move(then)](const absl::Status& status) {
    self->loop_.Post([self, then, status] {
      if (self->state() != State::kConnecting) return;
      if (status.ok()) return then();
      self->End("timeout", absl::StrCat("was not found: ", status.message()));
    });
  };
  if (lookups_ == nullptr) {
    workers_.Post([look = std::move(look), done = std::move(done)] {
      look();
      done(absl::OkStatus());
    });
    return;
  }
  auto run = [look = std::move(look)] {
    look();
    return absl::OkStatus();
  };
  if (const auto* const socket = absl::get_if<UnixAddress>(&address_.value())) {
    lookups_->LookAtFile(socket->path, std::move(run), std::move(done), limits_.connect_max);
  } else {
    lookups_->LookAtHost(absl::get<TcpAddress>(address_.value()).host, std::move(run),
                         std::move(done), limits_.connect_max);
  }
}

// To connect to a socket in the file system is to look up its name.
void Connection::ConnectByName() {
  const auto begun = std::make_shared<Begun>();
  LookUp(
      [begun, address = address_] {
        begun->connecting = StartConnect(Lookup(address)->front(), address);
      },
      [this, begun] {
        const absl::StatusOr<Connecting> connecting = begun->Take();
        connecting.ok() ? TakeSocket(*connecting) : Close(connecting.status());
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
    return TakeSocket(*connecting);
  }
  Close(failure);
}

void Connection::TakeSocket(const Connecting& connecting) {
  {
    MutexLock lock(&mutex_);
    socket_ = connecting.fd;
    watch_ = loop_.Watch(socket_, connecting.done ? EPOLLIN : EPOLLOUT,
                         [self = shared_from_this()](uint32_t ready) { self->OnSocket(ready); });
  }
  if (connecting.done) OnConnected();
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
    return End("garbage", "refused qmp_capabilities");
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
