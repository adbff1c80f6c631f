// Commands that start and steer jobs; and how clients follow them.

#include <memory>
#include <utility>

#include "engine/backend/validate.h"
#include "service/rpc/forward.h"
#include "service/rpc/job_stream.h"
#include "service/rpc/services.h"
#include "service/rpc/unary_call.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

class JobService final : public v1::JobService::CallbackService {
 public:
  explicit JobService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevBackup)
  TIDEMARK_FORWARD(DriveBackup)
  TIDEMARK_FORWARD(BlockdevMirror)
  TIDEMARK_FORWARD(DriveMirror)
  TIDEMARK_FORWARD(BlockStream)
  TIDEMARK_FORWARD(BlockCommit)
  TIDEMARK_FORWARD(JobPause)
  TIDEMARK_FORWARD(JobResume)
  TIDEMARK_FORWARD(JobCancel)
  TIDEMARK_FORWARD(JobComplete)
  TIDEMARK_FORWARD(JobFinalize)
  TIDEMARK_FORWARD(JobDismiss)
  TIDEMARK_FORWARD(BlockJobSetSpeed)
  TIDEMARK_FORWARD(BlockJobPause)
  TIDEMARK_FORWARD(BlockJobResume)
  TIDEMARK_FORWARD(BlockJobCancel)
  TIDEMARK_FORWARD(BlockJobComplete)
  TIDEMARK_FORWARD(BlockJobFinalize)
  TIDEMARK_FORWARD(BlockJobDismiss)
  TIDEMARK_FORWARD(BlockJobChange)
  TIDEMARK_FORWARD(QueryJobs)
  TIDEMARK_FORWARD(QueryBlockJobs)

  ServerUnaryReactor* GetJob(CallbackServerContext* context, const v1::GetJobRequest* request,
                             v1::GetJobResponse* response) override {
    return AnswerNow(front_, context, *request, response, request->instance(), [&]() {
      absl::Status status = backend::Validate(*request);
      if (!status.ok()) return status;
      auto entry = front_.jobs.Find(request->instance(), request->id());
      if (!entry.ok()) return ExplainNoJob(front_, request->instance(), entry.status());
      *response->mutable_job() = entry->view.job();
      return absl::OkStatus();
    });
  }

  ServerUnaryReactor* ListJobs(CallbackServerContext* context, const v1::ListJobsRequest* request,
                               v1::ListJobsResponse* response) override {
    return AnswerNow(front_, context, *request, response, "", [&]() {
      absl::Status status = backend::Validate(*request);
      if (!status.ok()) return status;
      auto page = front_.jobs.List(*request);
      if (page.ok()) *response = *std::move(page);
      return page.status();
    });
  }

  ServerUnaryReactor* WaitJob(CallbackServerContext* context, const v1::WaitJobRequest* request,
                              v1::WaitJobResponse* response) override {
    return new JobWait(front_, context, *request, response);
  }

  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      CallbackServerContext* context, const v1::WatchJobRequest* request) override {
    return new JobStream(front_, context, *request);
  }

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeJobService(const Front& front) {
  return std::make_unique<JobService>(front);
}

}  // namespace tidemark::rpc
