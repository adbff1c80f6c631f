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
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "adapters/qmp/io_loop.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/line_reader.h"
#include "adapters/qmp/message.h"
#include "adapters/qmp/monitor_address.h"
#include "adapters/qmp/peer_process.h"
#include "adapters/qmp/send_buffer.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

// Every one may be infinite.
struct ConnectionLimits {
  // For the connect alone.
  absl::Duration connect_max = kConnectMax;
  // From connected to ready: greeting and capabilities.
  absl::Duration handshake_max = kHandshakeMax;
  // While a command waits: how long the monitor may send nothing at all.
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
    //   silent       nothing came for silence_max with a command waiting
    //   peer-closed  the peer closed the socket, or the socket failed
    //   local        closed by the last reference going away
    virtual void OnClosed(const absl::Status& why) = 0;
  };

  // Starts to connect and returns at once. `listener` is called while it lives. The loop and the
  // workers must outlive OnClosed. Dropping the last reference is like Close: OnClosed still comes.
  static std::shared_ptr<Connection> Open(IoLoop& loop, Executor& workers,
                                          const MonitorAddress& address,
                                          std::weak_ptr<Listener> listener,
                                          const ConnectionLimits& limits = ConnectionLimits());
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
  void Execute(absl::string_view command, Json arguments, std::function<void(Reply)> done);

  // Ends the connection soon, for the reason given. Lines that have not been told are dropped.
  // The first Close wins; later ones have no effect.
  void Close(absl::Status why);

  const MonitorAddress& address() const { return address_; }

  // Whether the process that listened on a unix socket is known to have ended: then the virtual
  // machine is gone, not just the socket. False if that cannot be known (TCP, a socket handed over
  // by another program, no permission). Also after OnClosed, and cheap enough to ask again: a
  // killed QEMU closes its socket a moment before it has ended.
  bool peer_has_exited() const;

  // Lines that had no meaning but did no harm: replies with an id that nobody waits for.
  uint64_t surprise_count() const { return surprise_count_; }

 private:
  // kLingering: no command is taken any more, the end is still to be told.
  enum class State { kConnecting, kGreeting, kNegotiating, kReady, kLingering, kClosed };
  struct Waiting {
    std::function<void(Reply)> done;
    // Where its line lies in all that was ever sent.
    uint64_t begin = 0;
  };

  Connection(IoLoop& loop, Executor& workers, const MonitorAddress& address,
             std::weak_ptr<Listener> listener, const ConnectionLimits& limits);

  IoLoop& loop_;
  Executor& workers_;
  const MonitorAddress address_;
  const std::weak_ptr<Listener> listener_;
  const ConnectionLimits limits_;

  std::atomic<uint64_t> surprise_count_ = 0;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_CONNECTION_H_
