// One virtual machine that is registered: keeps its backend connected, and knows how it is doing.
//
//                 +----------- lost -----------+
//                 v                            |
//   CONNECTING -> attempt -> talks, is known -> READY
//                 |  ^ ^
//    fails, or is |  | | waits, ever longer
//    of no use    v  | |
//            UNREACHABLE, FAILED
//
// Each change of state, and of the machine's run state, is told by INSTANCE_STATE_CHANGE. Any
// thread; no call blocks.
#ifndef ADAPTERS_QMP_MONITORED_INSTANCE_H_
#define ADAPTERS_QMP_MONITORED_INSTANCE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "adapters/qmp/connection.h"
#include "adapters/qmp/monitor_address.h"
#include "adapters/qmp/qmp_backend.h"
#include "engine/base/mutex.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::qmp {

class MonitoredInstance final : public Connection::Listener,
                                public std::enable_shared_from_this<MonitoredInstance> {
 public:
  struct Options {
    ::tidemark::block::v1::CreateInstanceRequest request;
    MonitorAddress address;
    ::tidemark::block::v1::InstanceOrigin origin;
    ConnectionLimits limits;
    // From 0 to 1: so that many do not come back at the same moment. Any thread.
    std::function<double()> random;
    // Called whenever a connection, or an attempt at one, has ended.
    std::function<void()> on_closed;
  };

  // `context` must outlive it and what it has posted. `backend` is connected by this from now on.
  MonitoredInstance(Options options, BridgeContext context, std::shared_ptr<QmpBackend> backend);

  // Tells that it is registered, and begins to connect, or waits for BeginConnecting. Once.
  void Start(bool connects = true);
  void BeginConnecting();
  // It never connects, for this reason. Instead of BeginConnecting.
  void Fail(const absl::Status& why);

  // Something may listen at its address now: a wait for the next attempt ends at once.
  void Poke();

  enum class Ending {
    kStopped,  // The service stops: nothing is told.
    kDeleted,  // Its jobs leave the books, and the last event says DELETED.
    kGone,     // The same, and QEMU has ended as far as is known.
  };
  // Ends the connection and every attempt. `done` runs when all that is over.
  void End(Ending ending, std::function<void()> done);

  // As it is now.
  ::tidemark::block::v1::Instance Describe() const;
  ::tidemark::block::v1::InstanceState state() const;

  void SetOrigin(::tidemark::block::v1::InstanceOrigin origin);

  const std::shared_ptr<QmpBackend>& backend() const { return backend_; }
  const MonitorAddress& address() const { return options_.address; }

  // Connection::Listener.
  void OnReady(const Greeting& greeting) override;
  void OnEvent(Json event) override;
  void OnClosed(const absl::Status& why) override;

 private:
  using InstanceState = ::tidemark::block::v1::InstanceState;

  void Connect();
  void ShowNextAttempt(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitAndConnect(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskWhoItIs(const std::shared_ptr<Connection>& connection);
  void AskRunState(const std::shared_ptr<Connection>& connection);
  void OnRunState(const std::shared_ptr<Connection>& connection, const Reply& reply);
  void OnAttached(const std::shared_ptr<Connection>& connection, const absl::Status& status);
  absl::Duration NextState(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetState(InstanceState state, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsPresent(const std::shared_ptr<Connection>& connection) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration Jittered(absl::Duration delay) const;
  absl::Status Unusable(absl::string_view why) const;
  void Tell(InstanceState previous);
  void Finish();

  // Constant after construction.
  const Options options_;
  const BridgeContext context_;
  const std::shared_ptr<QmpBackend> backend_;

  mutable Mutex mutex_;
  // What Describe shows, but for what `connection_` and `backend_` count themselves.
  ::tidemark::block::v1::Instance shown_ ABSL_GUARDED_BY(mutex_);
  // At most one at a time: the next begins when this has told its end.
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
  // OnClosed is at work.
  bool is_closing_ ABSL_GUARDED_BY(mutex_) = false;
  // Of the wait for the next attempt; 0 without one.
  IoLoop::TimerId timer_ ABSL_GUARDED_BY(mutex_) = 0;
  // Attempts that failed since the last connection that lasted.
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration ready_since_ ABSL_GUARDED_BY(mutex_);  // On the clock's Elapsed().
  // The run state changed while it was asked for: ask again.
  bool asks_run_state_ ABSL_GUARDED_BY(mutex_) = false;
  bool run_state_is_stale_ ABSL_GUARDED_BY(mutex_) = false;
  bool ends_ ABSL_GUARDED_BY(mutex_) = false;
  Ending ending_ ABSL_GUARDED_BY(mutex_) = Ending::kStopped;
  std::function<void()> on_end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_MONITORED_INSTANCE_H_
