#include "service/orphan_jobs.h"

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

namespace v1 = ::tidemark::block::v1;

TEST(OrphanJobs, FailAndTheOthersStayAsTheyAre) {
  WorkerPool executor("test", 1);
  backend::EventLog log(SystemClock(), executor);
  backend::JobBook jobs(log);
  const auto append = [&log](const std::string& instance, const std::string& id,
                             v1::JobStatus status) {
    backend::Event event;
    event.mutable_job_status_change()->set_id(id);
    event.mutable_job_status_change()->set_status(status);
    log.Append(instance, event);
  };
  for (int i = 0; i < 250; ++i) append("", absl::StrCat("j", i), v1::JOB_STATUS_RUNNING);
  append("vm1", "j", v1::JOB_STATUS_RUNNING);
  append("", "done", v1::JOB_STATUS_CREATED);
  append("", "done", v1::JOB_STATUS_CONCLUDED);
  append("gone", "j", v1::JOB_STATUS_RUNNING);
  EndOrphanJobs(log, jobs, [](const std::string& instance) { return instance == "vm1"; });
  for (int i = 0; i < 250; ++i) {
    const v1::Job job = jobs.Find("", absl::StrCat("j", i))->view.job();
    EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_FAILED);
    EXPECT_NE(job.error(), "");
    EXPECT_EQ(job.error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  }
  EXPECT_EQ(jobs.Find("", "done")->view.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(jobs.Find("gone", "j")->view.job().outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(jobs.Find("vm1", "j")->view.job().outcome(), v1::JOB_OUTCOME_UNSPECIFIED);
}

}  // namespace
}  // namespace tidemark
