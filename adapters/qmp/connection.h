// One QMP monitor, from connect to end. Reconnecting is the owner's: with a new Connection.
//
//   connecting -> shaking hands (greeting, qmp_capabilities) -> ready -> closed
//        \__________________\_____________________________________^
//
// Any thread. Callbacks run on the I/O thread, or on a worker when they carry a long line, one at a
// time and in the order of the wire: an event that QEMU sent before a reply is told before it. None
// is ever called inside a call of a method. They may call every method; they must not block, and
// small ones keep other virtual machines quick.
#ifndef ADAPTERS_QMP_CONNECTION_H_
#define ADAPTERS_QMP_CONNECTION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "adapters/qmp/io_loop.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/message.h"
#include "adapters/qmp/monitor_address.h"
#include "adapters/qmp/peer_process.h"
#include "adapters/qmp/send_buffer.h"
#include "adapters/qmp/value_reader.h"
#include "engine/base/executor.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

// Every one may be infinite.
struct ConnectionLimits {
  // For the connect alone.
  absl::Duration connect_max = kConnectMax;
  // From connected to ready: greeting and capabilities.
  absl::Duration handshake_max = kHandshakeMax;
  // While a command waits: how long the monitor may send nothing at all. At any time: how long one
  // value may take from its first byte to its last, for a half one is no sign of life.
  absl::Duration silence_max = kSilenceMax;
  // A monitor that has sent nothing for so long, with no command waiting, is asked something cheap,
  // so that silence_max finds one that is stalled.
  absl::Duration keepalive_interval = absl::InfiniteDuration();
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    // Commands are taken from now on. At most once, before every event.
    virtual void OnReady(const Greeting& greeting) = 0;
    // The whole object: "event" (a string), "data" (an object, may be absent), "timestamp".
    virtual void OnEvent(Json event) = 0;
    // The end, exactly once, after everything else: all commands have been told how they ended.
    // `why` is UNAVAILABLE, unless it was given to Close: kInstanceUnreachable before OnReady,
    // kConnectionLost after. Its metadata "cause" is one of
    //   absent, refused, forbidden, unreachable   the connect failed (monitor_address.h)
    //   busy         not greeted in time, or not even accepted: another client may hold the monitor
    //   timeout      connect or capabilities took too long
    //   garbage      the peer does not speak QMP, or broke its rules
    //   silent       nothing was answered for silence_max while a command waited, or one value took
    //                as long
    //   peer-closed  the peer closed the socket, or the socket failed
    //   local        closed by the last reference going away
    virtual void OnClosed(const absl::Status& why) = 0;
  };

  // Starts to connect and returns at once. `listener` is called while it lives. The loop must
  // outlive the workers, and both OnClosed. Dropping the last reference is like Close: OnClosed
  // still comes. Names of hosts and sockets are looked up in `lookups`; null: on the workers.
  static std::shared_ptr<Connection> Open(IoLoop& loop, Executor& workers,
                                          const MonitorAddress& address,
                                          std::weak_ptr<Listener> listener,
                                          const ConnectionLimits& limits = ConnectionLimits(),
                                          LookupPool* lookups = nullptr);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Sends a command; it is on its way when this returns, or waits in memory for the peer to take
  // it. Never blocks. Commands of one thread go out in its order. `arguments` is an object, or null
  // for none. `done` runs exactly once, and its reply is one of
  //   - QEMU's answer: a value, or QEMU's error;
  //   - UNAVAILABLE (kConnectionLost): the connection ended, or was not ready. Metadata "outcome"
  //   is
  //     "unknown" if QEMU may have carried the command out, "not-sent" if it has surely not;
  //   - RESOURCE_EXHAUSTED (kLimitReached): too much waits already; not sent;
  //   - INVALID_ARGUMENT (kInvalidField): a string in `arguments` is not UTF-8; not sent.
  // What was not sent is told beside the order of the wire: perhaps while another callback runs,
  // and after OnClosed if the command came too late for it.
  void Execute(absl::string_view command, Json arguments, std::function<void(Reply)> done);

  // The same for what no client has asked for. A QEMU that has said SHUTDOWN is left in peace until
  // it says that it stays after all (-no-shutdown), for it may crash over a query while it goes: as
  // if the connection were lost, "not-sent".
  void ExecuteOwn(absl::string_view command, Json arguments, std::function<void(Reply)> done);

  // Ends the connection soon, for the reason given. Lines that have not been told are dropped.
  // The first Close wins; later ones have no effect.
  void Close(absl::Status why);

  const MonitorAddress& address() const { return address_; }

  // Whether the process that listened on a unix socket is known to have ended: then the virtual
  // machine is gone, not just the socket. False if that cannot be known (TCP, a socket handed over
  // by another program, no permission). Also after OnClosed, and cheap enough to ask again: a
  // killed QEMU closes its socket a moment before it has ended.
  bool peer_has_exited() const;
  // Whether peer_has_exited can tell.
  bool peer_is_watched() const;

  // Lines that had no meaning but did no harm: replies with an id that nobody waits for.
  uint64_t surprise_count() const { return surprise_count_; }

 private:
  // kClosing: the reason is known; the end is told as soon as no worker has a line.
  enum class State { kConnecting, kGreeting, kNegotiating, kReady, kClosing, kClosed };
  // What the socket still holds.
  enum class Drained { kYes, kNo, kStopped };

  struct Waiting {
    std::string command;
    std::function<void(Reply)> done;
    // Where its line begins in all that was ever given to the socket.
    uint64_t begin = 0;
  };

  Connection(IoLoop& loop, Executor& workers, const MonitorAddress& address,
             std::weak_ptr<Listener> listener, const ConnectionLimits& limits, LookupPool* lookups);

  // On the loop: connecting (connection_handshake.cc).
  void Start();
  void TryTargets(absl::StatusOr<std::vector<SocketAddress>> targets);
  void TryNextTarget();
  void LookUp(std::function<void()> look, std::function<void()> then);
  void ConnectByName();
  void TakeSocket(const Connecting& connecting);
  void OnConnecting();
  void OnConnected();
  void OnHandshakeTimeout();
  void SetTimer(absl::Duration delay, void (Connection::*method)());
  // Where lines are handled.
  void OnGreeting(Greeting greeting);
  void OnNegotiated(const Reply& reply);

  // On the loop: receiving and sending.
  void OnSocket(uint32_t ready);
  void Flush();
  Drained Receive();
  // False when no more may be read for now.
  bool Consume(absl::string_view bytes);
  void GiveToWorker(std::string line);
  void Resume();
  void DrainBroken();

  // On the loop, or on the worker that has a line.
  void HandleLine(absl::string_view line);
  void OnEvent(Event event);
  void Tell(Event event);
  void OnAnswer(Answer answer);

  // Any thread.
  void Send(absl::string_view command, const Json& arguments, std::function<void(Reply)> done);
  uint64_t NextId() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(absl::Status why, std::function<void(Reply)> done);
  void End(absl::string_view cause, absl::string_view what);
  State state() const;

  // On the loop: time limits and the end.
  void ArmTick(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteHalfValue(bool is_new);
  void Tick();
  void Finish();

  void UpdateInterest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  IoLoop& loop_;
  Executor& workers_;
  LookupPool* const lookups_;
  const MonitorAddress address_;
  const std::weak_ptr<Listener> listener_;
  const ConnectionLimits limits_;

  // Synchronise themselves.
  std::atomic<uint64_t> surprise_count_ = 0;
  // It has said SHUTDOWN.
  std::atomic<bool> is_going_ = false;

  // Of the loop.
  ValueReader reader_;
  // What was received behind a line that a worker has.
  std::string rest_;
  std::vector<SocketAddress> targets_;
  size_t next_target_ = 0;
  IoLoop::TimerId timer_ = 0;

  // Of the one who handles lines.
  Greeting greeting_;
  std::vector<Event> early_events_;

  // Held while bytes are given to the socket, which never blocks: nobody comes between them.
  mutable Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kConnecting;
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
  int socket_ ABSL_GUARDED_BY(mutex_) = -1;
  IoLoop::WatchId watch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const PeerProcess> peer_ ABSL_GUARDED_BY(mutex_);
  SendBuffer out_ ABSL_GUARDED_BY(mutex_);
  // What the socket said when it took no more bytes; 0 while it does.
  int broken_ ABSL_GUARDED_BY(mutex_) = 0;
  bool worker_has_line_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  // When the peer last did what is expected of it: answered a command, said anything while no
  // command waited, or had not been sent one yet.
  absl::Duration last_heard_ ABSL_GUARDED_BY(mutex_);
  // When it began the value that is not complete.
  absl::optional<absl::Duration> half_since_ ABSL_GUARDED_BY(mutex_);
  IoLoop::TimerId tick_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration tick_due_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_CONNECTION_H_
