// WatchEvents, WatchJob and WaitJob over a real connection.
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "engine/backend/proto_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {
namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;

backend::Event StatusChange(const std::string& job, v1::JobStatus status,
                            const std::string& node = "drive0") {
  backend::Event event;
  event.mutable_job_status_change()->set_id(job);
  event.mutable_job_status_change()->set_status(status);
  event.mutable_job_status_change()->add_node_names(node);
  return event;
}

backend::Event Progress(const std::string& job, int64_t bytes) {
  backend::Event event;
  event.mutable_job_progress()->set_id(job);
  event.mutable_job_progress()->set_progress_bytes(bytes);
  return event;
}

backend::Event Completed(const std::string& job) {
  backend::Event event;
  event.mutable_block_job_completed()->set_device(job);
  return event;
}

// A WatchEvents call. Destroying it makes the client disappear.
class Watch {
 public:
  Watch(FrontWorld& world, const v1::WatchEventsRequest& request)
      : stub_(v1::EventService::NewStub(world.channel)),
        reader_(stub_->WatchEvents(&context_, request)) {}
  ~Watch() { context_.TryCancel(); }

  // "heartbeat 3", "4 JOB_STATUS_CHANGE j" or "end".
  std::string Next() {
    v1::WatchEventsResponse response;
    if (!reader_->Read(&response)) return "end";
    if (response.has_heartbeat()) {
      return absl::StrCat("heartbeat ", response.heartbeat().sequence());
    }
    const v1::Event& event = response.event();
    return absl::StrCat(
        event.sequence(), " ", v1::EventKind_Name(event.kind()).substr(11), " ",
        event.has_job_progress() ? event.job_progress().id() : event.job_status_change().id());
  }
  // The next that is no heartbeat.
  std::string NextEvent() {
    std::string next = Next();
    while (absl::StartsWith(next, "heartbeat")) next = Next();
    return next;
  }
  grpc::Status Finish() { return reader_->Finish(); }
  std::string Sequence() const { return SequenceOf(context_); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::EventService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> reader_;
};

v1::WatchEventsRequest After(uint64_t sequence) {
  v1::WatchEventsRequest request;
  request.set_after(sequence);
  return request;
}

TEST(WatchEvents, BeginsWithAHeartbeatThenReplaysThenGoesOnLive) {
  FrontWorld world;
  for (int i = 0; i < 3; ++i) world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  Watch watch(world, After(1));
  EXPECT_EQ(watch.Next(), "heartbeat 1");
  EXPECT_EQ(watch.Next(), "2 JOB_STATUS_CHANGE j");
  EXPECT_EQ(watch.Next(), "3 JOB_STATUS_CHANGE j");
  world.log.Append("vm1", StatusChange("k", v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(watch.Next(), "4 JOB_STATUS_CHANGE k");
}

TEST(WatchEvents, WithoutACursorItBeginsNow) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  Watch watch(world, {});
  EXPECT_EQ(watch.Next(), "heartbeat 1");
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(watch.Next(), "2 JOB_STATUS_CHANGE j");
}

TEST(WatchEvents, ACursorOfAnotherLogIsToldAndNotGuessed) {
  FrontWorld world;
  for (int i = 0; i < 3; ++i) world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  v1::WatchEventsRequest request = After(1);
  request.set_log_id(world.log.id());
  Watch ours(world, request);
  EXPECT_EQ(ours.Next(), "heartbeat 1");
  request.set_log_id("0123456789abcdef0123456789abcdef");
  Watch foreign(world, request);
  EXPECT_EQ(foreign.Next(), "end");
  const grpc::Status status = foreign.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(InfoOf(status).reason(), "FOREIGN_LOG");
  EXPECT_EQ(InfoOf(status).metadata().at("log_id"), world.log.id());
}

// The interval of the request is an hour: this test ends only because it is not waited for.
TEST(WatchEvents, AReaderHearsSoonThatItIsPastWhatItDoesNotWantToSee) {
  FrontWorld world;
  v1::WatchEventsRequest request;
  request.add_kinds(v1::EVENT_KIND_BLOCK_JOB_COMPLETED);
  request.mutable_heartbeat_interval()->set_seconds(3'600);
  Watch watch(world, request);
  EXPECT_EQ(watch.Next(), "heartbeat 0");
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  EXPECT_EQ(watch.Next(), "heartbeat 1");
  constexpr int kFlood = 2'000;
  for (int i = 0; i < kFlood; ++i) {
    world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
    std::this_thread::yield();
  }
  int heartbeats = 1;
  while (watch.Next() != absl::StrCat("heartbeat ", kFlood + 1)) ++heartbeats;
  EXPECT_LT(heartbeats, kFlood / 2) << "a flood of events is none of heartbeats";
}

TEST(WatchEvents, FiltersByInstanceJobKindAndNode) {
  FrontWorld world;
  world.log.Append("", StatusChange("a", v1::JOB_STATUS_CREATED, "drive0"));     // 1
  world.log.Append("", StatusChange("b", v1::JOB_STATUS_CREATED, "drive1"));     // 2
  world.log.Append("vm1", StatusChange("c", v1::JOB_STATUS_CREATED, "drive0"));  // 3
  world.log.Append("", Completed("a"));                                          // 4
  const auto seen = [&world](v1::WatchEventsRequest request) {
    request.set_after(0);
    Watch watch(world, request);
    std::vector<std::string> all;
    watch.Next();
    world.log.Append("", StatusChange("a", v1::JOB_STATUS_NULL));
    for (std::string next = watch.NextEvent();; next = watch.NextEvent()) {
      all.push_back(next.substr(0, 1));
      if (next[0] >= '4') return all;
    }
  };
  v1::WatchEventsRequest by_job;
  by_job.add_job_ids("a");
  EXPECT_THAT(seen(by_job), ElementsAre("1", "4"));
  v1::WatchEventsRequest by_instance;
  by_instance.add_instances("vm1");
  by_instance.add_instances("");
  by_instance.add_kinds(v1::EVENT_KIND_BLOCK_JOB_COMPLETED);
  EXPECT_THAT(seen(by_instance), ElementsAre("4"));
  v1::WatchEventsRequest by_node;
  by_node.add_node_names("drive0");
  EXPECT_THAT(seen(by_node), ElementsAre("1", "3", "4")) << "also an event that names only the job";
}

TEST(WatchEvents, AFilterThatNothingPassesStillMovesTheCursor) {
  FrontWorld world;
  v1::WatchEventsRequest request = After(0);
  request.add_job_ids("nobody");
  backend::ToProto(absl::Milliseconds(100), request.mutable_heartbeat_interval());
  for (int i = 0; i < 1000; ++i) world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  Watch watch(world, request);
  EXPECT_EQ(watch.Next(), "heartbeat 0");
  EXPECT_EQ(watch.Next(), "heartbeat 1000");
}

TEST(WatchEvents, SilenceIsBrokenByHeartbeats) {
  FrontWorld world;
  v1::WatchEventsRequest request;
  backend::ToProto(absl::Milliseconds(100), request.mutable_heartbeat_interval());
  Watch watch(world, request);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(watch.Next(), "heartbeat 0");
}

TEST(WatchEvents, ACursorThatIsTooOldIsAnsweredWithTheOldest) {
  backend::EventLogOptions options;
  options.events_kept_max = 2;
  FrontWorld world(options);
  for (int i = 0; i < 5; ++i) world.log.Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  Watch watch(world, After(1));
  EXPECT_EQ(watch.Next(), "end");
  const grpc::Status status = watch.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(InfoOf(status).reason(), "EVENTS_EXPIRED");
  EXPECT_EQ(InfoOf(status).metadata().at("oldest_sequence"), "4");
  EXPECT_EQ(watch.Sequence(), "5");
}

TEST(WatchEvents, ACursorInTheFutureIsRefused) {
  FrontWorld world;
  Watch watch(world, After(7));
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_EQ(InfoOf(watch.Finish()).reason(), "SEQUENCE_UNKNOWN");
}

TEST(WatchEvents, AnInvalidRequestIsRefused) {
  FrontWorld world;
  v1::WatchEventsRequest request;
  request.mutable_heartbeat_interval()->set_nanos(1);
  Watch watch(world, request);
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_EQ(InfoOf(watch.Finish()).metadata().at("field"), "heartbeat_interval");
}

TEST(WatchEvents, ASlowReaderLagsAndIsToldWhenTheLogHasOutrunIt) {
  backend::EventLogOptions options;
  options.events_kept_max = 300;
  FrontWorld world(options);
  Watch watch(world, {});
  EXPECT_EQ(watch.Next(), "heartbeat 0");
  // It reads nothing while far more happens than connection and log can hold.
  const std::string name(100'000, 'x');
  for (int i = 0; i < 2'000; ++i) world.log.Append("", StatusChange(name, v1::JOB_STATUS_RUNNING));
  int received = 0;
  while (watch.Next() != "end") ++received;
  EXPECT_LT(received, 2'000);
  const grpc::Status status = watch.Finish();
  EXPECT_EQ(InfoOf(status).reason(), "EVENTS_EXPIRED");
  // Kept are the last 300 of those that had happened by then.
  int oldest = 0;
  ASSERT_TRUE(absl::SimpleAtoi(InfoOf(status).metadata().at("oldest_sequence"), &oldest));
  EXPECT_GT(oldest, received + 1);
  EXPECT_LE(oldest, 1'701);
}

TEST(WatchEvents, AClientThatDisappearsLeavesNothingBehind) {
  FrontWorld world;
  const size_t waiting_before = world.log.waiting_count();
  for (int i = 0; i < 20; ++i) {
    auto watch = std::make_unique<Watch>(world, v1::WatchEventsRequest());
    EXPECT_EQ(watch->Next(), "heartbeat 0");
    EXPECT_TRUE(Eventually([&] { return world.log.waiting_count() > waiting_before; }));
    watch.reset();
    EXPECT_TRUE(Eventually([&] { return world.streams.size() == 0; }));
    EXPECT_TRUE(Eventually([&] { return world.log.waiting_count() == waiting_before; }));
  }
}

TEST(WatchEvents, AClientThatDisappearsWhileBehindLeavesNothingBehind) {
  FrontWorld world;
  auto watch = std::make_unique<Watch>(world, After(0));
  const std::string name(100'000, 'x');
  for (int i = 0; i < 300; ++i) world.log.Append("", StatusChange(name, v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(watch->Next(), "heartbeat 0");
  watch.reset();
  EXPECT_TRUE(Eventually([&] { return world.streams.size() == 0; }));
}

TEST(WatchEvents, StreamsAreBounded) {
  FrontWorld world({}, {}, {4, 1 << 20});
  Watch first(world, {}), second(world, {});
  EXPECT_EQ(first.Next(), "heartbeat 0");
  EXPECT_EQ(second.Next(), "heartbeat 0");
  Watch third(world, {});
  EXPECT_EQ(third.Next(), "end");
  EXPECT_EQ(InfoOf(third.Finish()).reason(), "LIMIT_REACHED") << "half of four is for others";
}

TEST(WatchEvents, StreamsWithLongFiltersAreBoundedByTheirMemory) {
  FrontWorld world({}, {}, {100, 800 << 10});
  v1::WatchEventsRequest request;
  for (int i = 0; i < 1'000; ++i) request.add_job_ids(std::string(100, 'j'));
  Watch first(world, request);
  ASSERT_EQ(first.Next(), "heartbeat 0");
  EXPECT_EQ(Watch(world, request).Next(), "end");
}

TEST(WatchEvents, WhenTheServiceStopsTheStreamTellsAllAndEnds) {
  FrontWorld world;
  Watch watch(world, {});
  EXPECT_EQ(watch.Next(), "heartbeat 0");
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_ABORTING));
  world.streams.EndAll();
  EXPECT_EQ(watch.Next(), "1 JOB_STATUS_CHANGE j");
  EXPECT_EQ(watch.Next(), "end");
  const grpc::Status status = watch.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(InfoOf(status).reason(), "SHUTTING_DOWN");
}

// A WatchJob call.
class JobWatch {
 public:
  JobWatch(FrontWorld& world, const std::string& id)
      : stub_(v1::JobService::NewStub(world.channel)) {
    v1::WatchJobRequest request;
    request.set_id(id);
    reader_ = stub_->WatchJob(&context_, request);
  }
  // The state, or "end".
  std::string Next() {
    v1::WatchJobResponse response;
    if (!reader_->Read(&response)) return "end";
    last_ = response.job();
    return v1::JobStatus_Name(last_.status()).substr(11);
  }
  const v1::Job& last() const { return last_; }
  // The next that is no heartbeat.
  std::string NextEvent() {
    std::string next = Next();
    while (absl::StartsWith(next, "heartbeat")) next = Next();
    return next;
  }
  grpc::Status Finish() { return reader_->Finish(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::JobService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>> reader_;
  v1::Job last_;
};

TEST(WatchJob, ShowsEveryStateAndEndsWithTheJob) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  JobWatch watch(world, "j");
  EXPECT_EQ(watch.Next(), "CREATED");
  for (const v1::JobStatus status :
       {v1::JOB_STATUS_RUNNING, v1::JOB_STATUS_PAUSED, v1::JOB_STATUS_RUNNING,
        v1::JOB_STATUS_WAITING, v1::JOB_STATUS_PENDING}) {
    world.log.Append("", StatusChange("j", status));
    world.log.Append("", StatusChange("another", status));
  }
  world.log.Append("", Completed("j"));
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CONCLUDED));
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_NULL));
  for (const char* status : {"RUNNING", "PAUSED", "RUNNING", "WAITING", "PENDING", "CONCLUDED"}) {
    EXPECT_EQ(watch.Next(), status);
  }
  EXPECT_EQ(watch.last().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_TRUE(watch.Finish().ok());
}

TEST(WatchJob, PushesProgress) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  JobWatch watch(world, "j");
  EXPECT_EQ(watch.Next(), "CREATED");
  world.log.Append("", Progress("j", 1));
  EXPECT_EQ(watch.Next(), "CREATED");
  EXPECT_EQ(watch.last().progress_bytes(), 1);
  world.log.Append("", Progress("j", 2));
  EXPECT_EQ(watch.Next(), "CREATED");
  EXPECT_EQ(watch.last().progress_bytes(), 2);
}

TEST(WatchJob, AJobOfTheHistoryIsShownOnce) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_NULL));
  JobWatch watch(world, "j");
  EXPECT_EQ(watch.Next(), "NULL");
  EXPECT_EQ(watch.last().outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_TRUE(watch.Finish().ok());
}

TEST(WatchJob, AnUnknownJobIsNotFound) {
  FrontWorld world;
  JobWatch watch(world, "nobody");
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_EQ(InfoOf(watch.Finish()).reason(), "JOB_NOT_FOUND");
}

TEST(WatchJob, TheLastSnapshotArrivesEvenIfTheLogHasDroppedTheEnd) {
  backend::EventLogOptions options;
  options.events_kept_max = 10;
  FrontWorld world(options);
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  JobWatch watch(world, "j");
  EXPECT_EQ(watch.Next(), "CREATED");
  world.log.Append("", Completed("j"));
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CONCLUDED));
  v1::Job known = world.jobs.Find("", "j")->view.job();
  EXPECT_EQ(known.outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  for (int i = 0; i < 100; ++i) world.log.Append("", StatusChange("k", v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(watch.Next(), "CONCLUDED");
  EXPECT_EQ(watch.Next(), "end");
  EXPECT_TRUE(watch.Finish().ok());
}

v1::WaitJobResponse Wait(FrontWorld& world, const v1::WaitJobRequest& request,
                         grpc::Status* status) {
  grpc::ClientContext context;
  v1::WaitJobResponse response;
  *status = v1::JobService::NewStub(world.channel)->WaitJob(&context, request, &response);
  EXPECT_NE(SequenceOf(context), "");
  return response;
}

TEST(WaitJob, ReturnsWhenTheJobHasEnded) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  std::thread engine([&world] {
    EXPECT_TRUE(Eventually([&world] { return world.streams.size() == 1; }));
    world.log.Append("", Completed("j"));
    world.log.Append("", StatusChange("j", v1::JOB_STATUS_CONCLUDED));
  });
  v1::WaitJobRequest request;
  request.set_id("j");
  grpc::Status status;
  const v1::WaitJobResponse response = Wait(world, request, &status);
  engine.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.done());
  EXPECT_EQ(response.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

TEST(WaitJob, ReturnsWhenAStateAskedForPassesHoweverShortly) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  std::thread engine([&world] {
    EXPECT_TRUE(Eventually([&world] { return world.streams.size() == 1; }));
    for (const v1::JobStatus status :
         {v1::JOB_STATUS_RUNNING, v1::JOB_STATUS_READY, v1::JOB_STATUS_STANDBY}) {
      world.log.Append("", StatusChange("j", status));
    }
  });
  v1::WaitJobRequest request;
  request.set_id("j");
  request.add_statuses(v1::JOB_STATUS_READY);
  grpc::Status status;
  const v1::WaitJobResponse response = Wait(world, request, &status);
  engine.join();
  EXPECT_TRUE(response.done());
  EXPECT_EQ(response.job().status(), v1::JOB_STATUS_READY);
}

TEST(WaitJob, ReturnsUndoneWhenTheTimeIsUp) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  for (const absl::Duration timeout : {absl::ZeroDuration(), absl::Milliseconds(50)}) {
    v1::WaitJobRequest request;
    request.set_id("j");
    backend::ToProto(timeout, request.mutable_timeout());
    grpc::Status status;
    const v1::WaitJobResponse response = Wait(world, request, &status);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(response.done());
    EXPECT_EQ(response.job().status(), v1::JOB_STATUS_CREATED);
  }
}

TEST(WaitJob, AnUnknownJobIsNotFound) {
  FrontWorld world;
  v1::WaitJobRequest request;
  request.set_id("nobody");
  grpc::Status status;
  Wait(world, request, &status);
  EXPECT_EQ(InfoOf(status).reason(), "JOB_NOT_FOUND");
}

TEST(WaitJob, AClientThatGoesAwayLeavesNothingBehind) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  grpc::ClientContext context;
  std::thread client([&] {
    v1::WaitJobRequest request;
    request.set_id("j");
    v1::WaitJobResponse response;
    EXPECT_EQ(
        v1::JobService::NewStub(world.channel)->WaitJob(&context, request, &response).error_code(),
        grpc::StatusCode::CANCELLED);
  });
  EXPECT_TRUE(Eventually([&world] { return world.streams.size() == 1; }));
  context.TryCancel();
  client.join();
  EXPECT_TRUE(Eventually([&world] { return world.streams.size() == 0; }));
}

TEST(WaitJob, EndsWhenTheServiceStops) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  std::thread stop([&world] {
    EXPECT_TRUE(Eventually([&world] { return world.streams.size() == 1; }));
    world.streams.EndAll();
  });
  v1::WaitJobRequest request;
  request.set_id("j");
  grpc::Status status;
  Wait(world, request, &status);
  stop.join();
  EXPECT_EQ(InfoOf(status).reason(), "SHUTTING_DOWN");
}

}  // namespace
}  // namespace tidemark::rpc
