#include "engine/native/commands/job_commands.h"

#include <vector>

#include "engine/base/error.h"
#include "engine/native/jobs/job_convert.h"
#include "tidemark/block/v1/job_info.pb.h"
#include "tidemark/block/v1/job_verbs.pb.h"

namespace tidemark::native {
namespace {

using block::v1::JobStatus;
using job::Scheduler;
using job::VerbFamily;

// Adds a verb that takes nothing but the job's id. `name` is the request's member that has it.
template <typename Request, typename Response>
void AddVerb(Scheduler* scheduler, Handlers* handlers,
             absl::Status (Scheduler::*verb)(VerbFamily, absl::string_view), VerbFamily family,
             const std::string& (Request::*name)() const) {
  handlers->Add<Request, Response>([=](const Request& request, Response*) {
    return (scheduler->*verb)(family, (request.*name)());
  });
}

void AddJobVerbs(Scheduler* scheduler, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  constexpr VerbFamily kFamily = VerbFamily::kJob;
  AddVerb<JobPauseRequest, JobPauseResponse>(scheduler, handlers, &Scheduler::Pause, kFamily,
                                             &JobPauseRequest::id);
  AddVerb<JobResumeRequest, JobResumeResponse>(scheduler, handlers, &Scheduler::Resume, kFamily,
                                               &JobResumeRequest::id);
  AddVerb<JobCompleteRequest, JobCompleteResponse>(scheduler, handlers, &Scheduler::Complete,
                                                   kFamily, &JobCompleteRequest::id);
  AddVerb<JobFinalizeRequest, JobFinalizeResponse>(scheduler, handlers, &Scheduler::Finalize,
                                                   kFamily, &JobFinalizeRequest::id);
  AddVerb<JobDismissRequest, JobDismissResponse>(scheduler, handlers, &Scheduler::Dismiss, kFamily,
                                                 &JobDismissRequest::id);
  handlers->Add<JobCancelRequest, JobCancelResponse>(
      [scheduler](const JobCancelRequest& request, JobCancelResponse*) {
        return scheduler->Cancel(kFamily, request.id(), /*force=*/true);
      });
}

void AddBlockJobVerbs(Scheduler* scheduler, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  constexpr VerbFamily kFamily = VerbFamily::kBlockJob;
  AddVerb<BlockJobPauseRequest, BlockJobPauseResponse>(scheduler, handlers, &Scheduler::Pause,
                                                       kFamily, &BlockJobPauseRequest::device);
  AddVerb<BlockJobResumeRequest, BlockJobResumeResponse>(scheduler, handlers, &Scheduler::Resume,
                                                         kFamily, &BlockJobResumeRequest::device);
  AddVerb<BlockJobCompleteRequest, BlockJobCompleteResponse>(
      scheduler, handlers, &Scheduler::Complete, kFamily, &BlockJobCompleteRequest::device);
  AddVerb<BlockJobFinalizeRequest, BlockJobFinalizeResponse>(
      scheduler, handlers, &Scheduler::Finalize, kFamily, &BlockJobFinalizeRequest::id);
  AddVerb<BlockJobDismissRequest, BlockJobDismissResponse>(scheduler, handlers, &Scheduler::Dismiss,
                                                           kFamily, &BlockJobDismissRequest::id);
  handlers->Add<BlockJobCancelRequest, BlockJobCancelResponse>(
      [scheduler](const BlockJobCancelRequest& request, BlockJobCancelResponse*) {
        return scheduler->Cancel(kFamily, request.device(), request.force());
      });
  handlers->Add<BlockJobSetSpeedRequest, BlockJobSetSpeedResponse>(
      [scheduler](const BlockJobSetSpeedRequest& request, BlockJobSetSpeedResponse*) {
        return scheduler->SetSpeed(kFamily, request.device(), request.speed());
      });
  handlers->Add<BlockJobChangeRequest, BlockJobChangeResponse>(
      [scheduler](const BlockJobChangeRequest& request, BlockJobChangeResponse*) {
        const bool to_background =
            request.mirror().copy_mode() == block::v1::MIRROR_COPY_MODE_BACKGROUND;
        return scheduler->Change(
            request.id(), job::JobType::kMirror,
            to_background ? job::CopyMode::kBackground : job::CopyMode::kWriteBlocking);
      });
}

void FillJobInfo(const job::JobSnapshot& snapshot, block::v1::JobInfo* info) {
  info->set_id(snapshot.id);
  info->set_type(ToProto(snapshot.type));
  info->set_status(ToProto(snapshot.status));
  info->set_current_progress(snapshot.progress.current_bytes);
  info->set_total_progress(snapshot.progress.total_bytes);
  if (snapshot.status == job::JobStatus::kConcluded && !snapshot.error.ok()) {
    info->set_error(ErrorText(snapshot.error));
  }
}

void FillBlockJobInfo(const job::JobSnapshot& snapshot, block::v1::BlockJobInfo* info) {
  info->set_type(ToProto(snapshot.type));
  info->set_device(snapshot.id);
  info->set_len(snapshot.progress.total_bytes);
  info->set_offset(snapshot.progress.current_bytes);
  info->set_busy(snapshot.busy);
  info->set_paused(snapshot.paused);
  info->set_speed(snapshot.speed);
  info->set_io_status(IoStatusOf(snapshot));
  info->set_ready(snapshot.ready);
  info->set_status(ToProto(snapshot.status));
  info->set_auto_finalize(snapshot.auto_finalize);
  info->set_auto_dismiss(snapshot.auto_dismiss);
  if (snapshot.status == job::JobStatus::kConcluded && !snapshot.error.ok()) {
    info->set_error(ErrorText(snapshot.error));
  }
  if (snapshot.actively_synced.has_value()) info->set_actively_synced(*snapshot.actively_synced);
}

void AddQueries(Scheduler* scheduler, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  handlers->Add<QueryJobsRequest, QueryJobsResponse>(
      [scheduler](const QueryJobsRequest&, QueryJobsResponse* response) {
        for (const job::JobSnapshot& snapshot : scheduler->QueryJobs()) {
          FillJobInfo(snapshot, response->add_jobs());
        }
        return absl::OkStatus();
      });
  handlers->Add<QueryBlockJobsRequest, QueryBlockJobsResponse>(
      [scheduler](const QueryBlockJobsRequest&, QueryBlockJobsResponse* response) {
        for (const job::JobSnapshot& snapshot : scheduler->QueryBlockJobs()) {
          FillBlockJobInfo(snapshot, response->add_jobs());
        }
        return absl::OkStatus();
      });
}

}  // namespace

void AddJobCommands(job::Scheduler* scheduler, Handlers* handlers) {
  AddJobVerbs(scheduler, handlers);
  AddBlockJobVerbs(scheduler, handlers);
  AddQueries(scheduler, handlers);
}

}  // namespace tidemark::native
