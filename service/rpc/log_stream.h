// A server-streaming RPC that follows the event log: the part that is the same for all of them. It
// owns itself from its creation until gRPC is done with it; a client that goes away ends it at
// once.
#ifndef SERVICE_RPC_LOG_STREAM_H_
#define SERVICE_RPC_LOG_STREAM_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/error.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/error_status.h"
#include "service/rpc/front.h"
#include "service/rpc/limits.h"
#include "service/rpc/peer.h"
#include "service/rpc/pump.h"

namespace tidemark::rpc {

template <typename Response>
class LogStream : public grpc::ServerWriteReactor<Response> {
 public:
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;

 protected:
  // What a step of a stream wants.
  struct Turn {
    enum class Kind {
      kWrite,           // *response is to be sent; then comes the next turn.
      kWriteAndFinish,  // *response is the last.
      kFinish,          // With `status`.
      kAgain,           // Nothing to send yet, but there is more to look at.
      kWait,            // Until the log goes beyond `after`, or for `delay`.
    };
    Kind kind;
    absl::Status status = absl::OkStatus();
    uint64_t after = 0;
    absl::Duration delay = absl::InfiniteDuration();
  };

  // `instance` is told with errors, unless empty.
  LogStream(const Front& front, grpc::CallbackServerContext* context, std::string instance = "")
      : front_(front),
        context_(context),
        instance_(std::move(instance)),
        pump_(std::make_shared<Pump>(front.log, front.executor, [this] { return Step(); })) {}
  ~LogStream() override = default;

  // Begins; with an error, ends at once. The last thing a constructor calls. `bytes` of memory are
  // what the stream holds for as long as it lives, besides what each has.
  void Start(absl::Status status, uint64_t bytes) {
    if (status.ok()) status = front_.streams.Add(pump_, PeerKey(*context_), bytes);
    if (status.ok()) {
      pump_->Kick();
    } else {
      pump_->Stop();
      LetGo();
      Finish(status);
    }
  }

  // A stream that was refused: its client may leave it open for long, so it holds nothing.
  virtual void LetGo() {}

  // Says what is next; never called twice at once. At the end of the log, when front().streams is
  // ending, it finishes with Ending().
  virtual Turn TakeTurn(Response* response) = 0;

  // Reads on after `cursor` into `*read`, which is empty. A slow reader's stream holds that for
  // long, so it counts as its client's memory.
  absl::Status ReadOn(uint64_t cursor, const std::vector<std::string>& instances,
                      std::deque<backend::EventPtr>* read) {
    auto events = front_.log.Read(cursor, kEventsPerStepMax, instances);
    if (!events.ok()) return events.status();
    front_.streams.Hold(pump_, &*events);
    read->assign(std::make_move_iterator(events->begin()), std::make_move_iterator(events->end()));
    return absl::OkStatus();
  }

  static absl::Status Ending() {
    return Error(Reason::kShuttingDown, "The service is stopping; resume when it is back");
  }

  const Front& front() const { return front_; }

 private:
  Pump::Next Step() {
    if (gone_) {
      Finish(absl::CancelledError("The client has gone"));
      return {Pump::Next::Kind::kEnd};
    }
    response_.Clear();
    const Turn turn = TakeTurn(&response_);
    switch (turn.kind) {
      case Turn::Kind::kWrite:
        this->StartWrite(&response_);
        return {Pump::Next::Kind::kBusy};
      case Turn::Kind::kWriteAndFinish:
        AddTrailers(front_.log, front_.log.shown(), context_);
        this->StartWriteAndFinish(&response_, {}, grpc::Status::OK);
        return {Pump::Next::Kind::kEnd};
      case Turn::Kind::kFinish:
        Finish(turn.status);
        return {Pump::Next::Kind::kEnd};
      case Turn::Kind::kAgain:
        return {Pump::Next::Kind::kAgain};
      case Turn::Kind::kWait:
        return {Pump::Next::Kind::kWait, turn.after, turn.delay};
    }
    return {Pump::Next::Kind::kEnd};
  }

  void Finish(const absl::Status& status) {
    AddTrailers(front_.log, front_.log.shown(), context_);
    grpc::ServerWriteReactor<Response>::Finish(ToGrpcStatus(status, instance_));
  }

  void OnWriteDone(bool ok) override {
    if (!ok) gone_ = true;
    pump_->Resume();
  }
  void OnCancel() override {
    gone_ = true;
    pump_->Kick();
  }
  void OnDone() override {
    pump_->Stop();
    front_.streams.Remove(pump_);
    delete this;
  }

  const Front& front_;
  grpc::CallbackServerContext* const context_;
  const std::string instance_;
  const std::shared_ptr<Pump> pump_;
  std::atomic<bool> gone_{false};
  Response response_;  // Touched by steps, and by gRPC while busy.
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_LOG_STREAM_H_
