// WatchJob and WaitJob: one job, followed to its end.
#ifndef SERVICE_RPC_JOB_STREAM_H_
#define SERVICE_RPC_JOB_STREAM_H_

#include <atomic>
#include <memory>

#include "absl/types/optional.h"
#include "service/rpc/job_follower.h"
#include "service/rpc/log_stream.h"
#include "tidemark/block/v1/job_watch.pb.h"

namespace tidemark::rpc {

// Why a job was not found, as a client should hear it: if there is no such instance either, that.
// (The jobs of an instance that has gone are remembered for a while.)
absl::Status ExplainNoJob(const Front& front, absl::string_view instance,
                          const absl::Status& status);

// A snapshot now, one for each change of state, and progress now and then; the last one has the
// outcome. A slow reader skips progress, and states only if the log has dropped their events.
class JobStream final : public LogStream<::tidemark::block::v1::WatchJobResponse> {
 public:
  // Owns itself. `request` need not outlive the constructor.
  JobStream(const Front& front, grpc::CallbackServerContext* context,
            const ::tidemark::block::v1::WatchJobRequest& request);

 private:
  Turn TakeTurn(::tidemark::block::v1::WatchJobResponse* response) override;
  Turn Show(::tidemark::block::v1::WatchJobResponse* response);

  absl::Duration progress_interval_;

  // Touched by turns only.
  absl::optional<JobFollower> follower_;
  bool greeted_ = false;
  bool figures_changed_ = false;
  absl::Duration last_sent_;  // On the clock's Elapsed().
};

// Answers when the job has ended or is in a state asked for, or when the time is up.
class JobWait final : public grpc::ServerUnaryReactor {
 public:
  // Owns itself. `request` and `response` live as long as the RPC.
  JobWait(const Front& front, grpc::CallbackServerContext* context,
          const ::tidemark::block::v1::WaitJobRequest& request,
          ::tidemark::block::v1::WaitJobResponse* response);

 private:
  Pump::Next Step();
  bool IsAwaited() const;
  Pump::Next Answer(bool done);
  Pump::Next FinishWith(const absl::Status& status);

  void OnCancel() override;
  void OnDone() override;

  const Front& front_;
  grpc::CallbackServerContext* const context_;
  const ::tidemark::block::v1::WaitJobRequest& request_;
  ::tidemark::block::v1::WaitJobResponse* const response_;
  absl::Duration deadline_;  // On the clock's Elapsed().
  const std::shared_ptr<Pump> pump_;
  std::atomic<bool> gone_{false};

  // Touched by steps only.
  absl::optional<JobFollower> follower_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_JOB_STREAM_H_
