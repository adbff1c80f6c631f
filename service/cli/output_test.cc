#include "service/cli/output.h"

#include <limits>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "service/cli/error_text.h"
#include "service/cli/events.h"
#include "service/cli/methods.h"
#include "service/cli/progress.h"
#include "tidemark/block/v1/job_verbs.pb.h"
#include "tidemark/block/v1/job_watch.pb.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;
using qmp::Json;

TEST(OutputTest, ReadableTextIsIndentedLines) {
  const Json json = Json::parse(R"({"id":"job0","sizes":[1,2],"none":[],"size":1073741824,
      "nodes":[{"name":"a","deep":{"x":true}},{"name":"b"}],"empty":{}})");
  EXPECT_EQ(ReadableText(json),
            "id: job0\n"
            "sizes: 1, 2\n"
            "none: none\n"
            "size: 1073741824 (1.0 GiB)\n"
            "nodes:\n"
            "  - name: a\n"
            "    deep:\n"
            "      x: true\n"
            "  - name: b\n"
            "empty: {}\n");
  EXPECT_EQ(ReadableText(Json::array()), "none\n");
}

TEST(OutputTest, TextCannotSteerATerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\n\x7f\xc2\x9b\xc3\xa4"),
            "a\\u001b[2Jb\\u000a\\u007f\\u009b\xc3\xa4");
  EXPECT_EQ(ReadableText({{"na\tme", "a\nb"}}), "na\\u0009me: a\\u000ab\n");
}

TEST(OutputTest, JsonIsOneExactLine) {
  EXPECT_EQ(JsonLine({{"n", std::numeric_limits<uint64_t>::max()}, {"s", "\xff\n"}}),
            "{\"n\":18446744073709551615,\"s\":\"\xef\xbf\xbd\\n\"}\n");
}

TEST(OutputTest, BytesComeInBinaryUnits) {
  EXPECT_EQ(BytesText(0), "0 B");
  EXPECT_EQ(BytesText(1023), "1023 B");
  EXPECT_EQ(BytesText(1024), "1.0 KiB");
  EXPECT_EQ(BytesText(1024 * 1024 - 1), "1.0 MiB");
  EXPECT_EQ(BytesText(std::numeric_limits<uint64_t>::max()), "16.0 EiB");
}

TEST(OutputTest, ResponsesOfQmpsCommandsHaveItsShapeAndOursAllTheirFields) {
  v1::QueryJobsResponse jobs;
  jobs.add_jobs()->set_id("j");
  EXPECT_EQ(ResponseJson(*FindMethod("query-jobs"), jobs).dump(),
            R"([{"id":"j","current-progress":0,"total-progress":0}])");
  v1::WaitJobResponse wait;
  EXPECT_EQ(ResponseJson(*FindMethod("wait-job"), wait).dump(), R"({"done":false})");
  EXPECT_TRUE(ReturnsNothing(*FindMethod("blockdev-backup")));
  EXPECT_FALSE(ReturnsNothing(*FindMethod("query-jobs")));
}

TEST(OutputTest, CommandsHaveThreeNames) {
  const auto* const method = FindMethod("blockdev-backup");
  ASSERT_NE(method, nullptr);
  EXPECT_EQ(FindMethod("BlockdevBackup"), method);
  EXPECT_EQ(FindMethod("tidemark.block.v1.JobService/BlockdevBackup"), method);
  EXPECT_EQ(FindMethod("/tidemark.block.v1.JobService/BlockdevBackup"), method);
  EXPECT_EQ(FindMethod("tidemark.block.v1.JobService.BlockdevBackup"), method);
  EXPECT_EQ(CommandName(*FindMethod("GetJob")), "get-job");
  EXPECT_EQ(FindMethod("blockdev"), nullptr);
  EXPECT_EQ(FindMethod(""), nullptr);
}

TEST(ErrorTextTest, ARefusalIsToldByReasonCodeMessageAndObjects) {
  google::rpc::ErrorInfo info;
  info.set_reason("NODE_NOT_FOUND");
  (*info.mutable_metadata())["node"] = "disk0";
  (*info.mutable_metadata())["qmp_class"] = "GenericError";
  google::rpc::Status rich;
  rich.add_details()->PackFrom(info);
  const grpc::Status status(grpc::StatusCode::NOT_FOUND, "no node 'disk0'",
                            rich.SerializeAsString());
  EXPECT_EQ(ErrorText(status, "h:1"),
            "tidemark: NODE_NOT_FOUND (NOT_FOUND): no node 'disk0'\n  node: disk0\n");
}

TEST(ErrorTextTest, ABrokenConnectionNamesTheAddressAndTheDaemon) {
  const grpc::Status status(grpc::StatusCode::UNAVAILABLE, "nobody there");
  const std::string text = ErrorText(status, "unix:/s");
  EXPECT_NE(text.find("unix:/s"), std::string::npos);
  EXPECT_NE(text.find("tidemarkd --listen unix:/s"), std::string::npos);
}

TEST(ErrorTextTest, DetailsThatAreNoDetailsDoNoHarm) {
  const grpc::Status status(grpc::StatusCode::INTERNAL, "odd", "\xff\xff");
  EXPECT_EQ(ErrorText(status, "h:1"), "tidemark: INTERNAL: odd\n");
}

TEST(EventsTest, AnEventIsALine) {
  v1::Event event;
  event.set_sequence(41);
  event.mutable_time()->set_seconds(1772366400);
  event.set_kind(v1::EVENT_KIND_JOB_STATUS_CHANGE);
  event.mutable_job_status_change()->set_id("job0");
  event.mutable_job_status_change()->set_status(v1::JOB_STATUS_RUNNING);
  event.mutable_job_status_change()->add_node_names("a");
  event.mutable_job_status_change()->add_node_names("b");
  EXPECT_EQ(EventLine(event),
            "41 2026-03-01T12:00:00Z JOB_STATUS_CHANGE id=job0 status=running node-names=a,b\n");
  event.set_recovered(true);
  event.mutable_job_status_change()->set_spontaneous(true);
  EXPECT_EQ(EventLine(event),
            "41 2026-03-01T12:00:00Z JOB_STATUS_CHANGE (found later) id=job0 status=running "
            "node-names=a,b spontaneous=true\n");
}

TEST(EventsTest, AnEventFromTheFutureIsALineToo) {
  v1::Event event;
  event.set_sequence(1);
  event.set_instance("vm0");
  EXPECT_EQ(EventLine(event), "1 - [vm0] UNKNOWN_EVENT\n");
}

TEST(EventsTest, FiltersAreTakenInAnySpelling) {
  Flags flags;
  flags.words = {"events"};
  flags.after = 0;
  flags.kinds = {"JOB_PROGRESS", "block-job-error"};
  flags.jobs = {"a,b"};
  const auto request = EventsRequest(flags);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_TRUE(request->has_after());
  EXPECT_EQ(request->kinds(0), v1::EVENT_KIND_JOB_PROGRESS);
  EXPECT_EQ(request->kinds(1), v1::EVENT_KIND_BLOCK_JOB_ERROR);
  EXPECT_EQ(request->job_ids(0), "a,b");
  flags.kinds = {"SURPRISE"};
  EXPECT_FALSE(EventsRequest(flags).ok());
}

v1::Job JobAt(int64_t seconds, int64_t bytes) {
  v1::Job job;
  job.set_id("job0");
  job.set_status(v1::JOB_STATUS_RUNNING);
  job.set_total_bytes(int64_t{10} << 30);
  job.set_progress_bytes(bytes);
  job.mutable_progress_time()->set_seconds(1000 + seconds);
  return job;
}

TEST(ProgressTest, ALineTellsPartBytesRateAndTimeLeft) {
  EXPECT_EQ(ProgressLine(JobAt(0, int64_t{9} << 29), 120 << 20),
            "job0 running [#########-----------]  45.0 %  4.5 GiB of 10.0 GiB  120.0 MiB/s  0:46 "
            "left");
  EXPECT_EQ(ProgressLine(JobAt(0, 0), 0),
            "job0 running [--------------------]   0.0 %  0 B of 10.0 GiB");
}

TEST(ProgressTest, OddFiguresDoNoHarm) {
  v1::Job job = JobAt(0, -5);
  job.set_total_bytes(-7);
  EXPECT_EQ(Permille(job), 0);
  job.set_total_bytes(1);
  job.set_progress_bytes(100);
  EXPECT_EQ(Permille(job), 999) << "only an end is the end";
  job.set_outcome(v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(Permille(job), 1000);
  job.set_status(static_cast<v1::JobStatus>(77));
  EXPECT_NE(ProgressLine(job, 1), "");
}

TEST(ProgressTest, AnOutcomeIsTold) {
  v1::Job job = JobAt(0, 1 << 30);
  job.set_outcome(v1::JOB_OUTCOME_SUCCEEDED);
  job.mutable_start_time()->set_seconds(1000);
  job.mutable_end_time()->set_seconds(1004);
  EXPECT_EQ(OutcomeLine(job), "job0 succeeded: 1.0 GiB in 4.0 s (256.0 MiB/s)");
  job.set_outcome(v1::JOB_OUTCOME_CANCELLED);
  EXPECT_EQ(OutcomeLine(job), "job0 was cancelled");
  job.set_outcome(v1::JOB_OUTCOME_FAILED);
  job.set_error_reason(v1::ERROR_REASON_NO_SPACE);
  job.set_error("No space left on device");
  EXPECT_EQ(OutcomeLine(job), "job0 failed (NO_SPACE): No space left on device");
}

TEST(ProgressTest, TheRateIsOfTheLastSeconds) {
  RateMeter meter;
  EXPECT_EQ(meter.BytesPerSecond(), 0u);
  meter.Add(JobAt(0, 0));
  EXPECT_EQ(meter.BytesPerSecond(), 0u);
  for (int i = 1; i <= 20; ++i) meter.Add(JobAt(i, i < 10 ? 0 : (i - 10) * 1000));
  EXPECT_EQ(meter.BytesPerSecond(), 1000u);
  meter.Add(JobAt(20, 10000));
  EXPECT_EQ(meter.BytesPerSecond(), 1000u) << "the same snapshot again";
  v1::Job told = JobAt(21, 10000);
  told.set_rate_bytes_per_second(7);
  meter.Add(told);
  EXPECT_EQ(meter.BytesPerSecond(), 7u);
  meter.Add(JobAt(22, 0));
  EXPECT_EQ(meter.BytesPerSecond(), 0u) << "another job of the same id";
}

}  // namespace
}  // namespace tidemark::cli
