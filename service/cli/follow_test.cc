// Streams that break, from a service that breaks them on purpose.
#include "service/cli/follow.h"

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "service/cli/events.h"
#include "service/cli/watch.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;

// Each call sends one event, the one after that asked for, and breaks; from the third on it
// refuses.
class BreakingEvents final : public v1::EventService::Service {
 public:
  grpc::Status WatchEvents(grpc::ServerContext*, const v1::WatchEventsRequest* request,
                           grpc::ServerWriter<v1::WatchEventsResponse>* writer) override {
    after_.push_back(request->has_after() ? static_cast<int64_t>(request->after()) : -1);
    v1::WatchEventsResponse response;
    if (after_.size() == 1) {
      response.mutable_heartbeat()->set_sequence(7);
      writer->Write(response);
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "on purpose");
    }
    if (after_.size() > 3) return grpc::Status(grpc::StatusCode::OUT_OF_RANGE, "gone");
    response.mutable_event()->set_sequence(request->after() + 1);
    writer->Write(response);
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "on purpose");
  }
  std::vector<int64_t> after_;
};

// The first call sends a job at work and breaks, the second one that failed.
class BreakingJobs final : public v1::JobService::Service {
 public:
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    v1::WatchJobResponse response;
    response.mutable_job()->set_id(request->id());
    if (++calls_ == 2) response.mutable_job()->set_outcome(v1::JOB_OUTCOME_FAILED);
    writer->Write(response);
    return calls_ == 2 ? grpc::Status::OK
                       : grpc::Status(grpc::StatusCode::UNAVAILABLE, "on purpose");
  }
  int calls_ = 0;
};

class FollowTest : public testing::Test {
 protected:
  FollowTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&events_);
    builder.RegisterService(&jobs_);
    server_ = builder.BuildAndStart();
    ClientOptions options;
    options.address = absl::StrCat("127.0.0.1:", port);
    client_ = *Client::Create(options);
  }

  Session MakeSession(const Flags& flags) {
    return Session{flags, *client_, output_, diagnostics_, 0};
  }

  BreakingEvents events_;
  BreakingJobs jobs_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
  std::ostringstream output_;
  std::ostringstream diagnostics_;
};

TEST_F(FollowTest, EventsGoOnAfterTheLastSequenceUntilTheServiceRefuses) {
  Flags flags;
  flags.words = {"events"};
  EXPECT_EQ(RunEvents(MakeSession(flags)), kExitFailed);
  EXPECT_EQ(events_.after_, (std::vector<int64_t>{-1, 7, 8, 9}));
  EXPECT_EQ(output_.str(), "8 - UNKNOWN_EVENT\n9 - UNKNOWN_EVENT\n");
  EXPECT_TRUE(absl::StrContains(diagnostics_.str(), "is broken (on purpose); trying again"))
      << diagnostics_.str();
  EXPECT_TRUE(absl::StrContains(diagnostics_.str(), "connected again")) << diagnostics_.str();
  EXPECT_TRUE(absl::StrContains(diagnostics_.str(), "OUT_OF_RANGE: gone")) << diagnostics_.str();
}

TEST_F(FollowTest, ACountEndsIt) {
  Flags flags;
  flags.words = {"events"};
  flags.count = 1;
  flags.json = true;
  EXPECT_EQ(RunEvents(MakeSession(flags)), kExitDone);
  EXPECT_EQ(output_.str(), "{\"sequence\":8,\"recovered\":false,\"unsaved\":false}\n");
}

TEST_F(FollowTest, AWatchGoesOnUntilTheJobsEnd) {
  Flags flags;
  flags.words = {"watch", "job0"};
  EXPECT_EQ(RunWatch(MakeSession(flags)), kExitFailed);
  EXPECT_EQ(jobs_.calls_, 2);
  EXPECT_TRUE(absl::StrContains(output_.str(), "job0 failed\n")) << output_.str();
}

TEST_F(FollowTest, ATerminalSeesOneLineThatChanges) {
  Flags flags;
  flags.words = {"watch", "job0"};
  Session session{flags, *client_, output_, diagnostics_, 30};
  EXPECT_EQ(RunWatch(session), kExitFailed);
  EXPECT_TRUE(absl::StartsWith(output_.str(), "\rjob0 ")) << output_.str();
  EXPECT_TRUE(absl::StrContains(output_.str(), "\x1b[K\njob0 failed\n")) << output_.str();
  EXPECT_EQ(output_.str().find("\x1b"), 30u) << "one column less than the terminal has, after \\r";
}

TEST_F(FollowTest, AServiceThatIsNotThereAtFirstIsAnError) {
  server_->Shutdown();
  Flags flags;
  flags.words = {"events"};
  EXPECT_EQ(RunEvents(MakeSession(flags)), kExitFailed);
  EXPECT_TRUE(absl::StrContains(diagnostics_.str(), "no connection to 127.0.0.1:"));
}

}  // namespace
}  // namespace tidemark::cli
