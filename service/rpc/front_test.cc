// One RPC at a time, over a real connection, in front of a fake engine.
#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "engine/backend/command.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "gmock/gmock.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "gtest/gtest.h"
#include "service/rpc/error_status.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/instance.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"
#include "tidemark/block/v1/node.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

backend::Event StatusChange(const std::string& job, v1::JobStatus status) {
  backend::Event event;
  event.mutable_job_status_change()->set_id(job);
  event.mutable_job_status_change()->set_status(status);
  return event;
}

v1::BlockdevAddRequest AddFile(const std::string& filename) {
  v1::BlockdevAddRequest request;
  request.mutable_options()->set_node_name("n");
  request.mutable_options()->mutable_file()->set_filename(filename);
  return request;
}

TEST(Front, EveryCommandIsServed) {
  FrontWorld world;
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    const grpc::Status status = CallRaw(world, "/" + command->rpc_name, "");
    EXPECT_NE(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << command->rpc_name;
    if (status.ok()) continue;
    EXPECT_EQ(InfoOf(status).reason().substr(0, 7), "INVALID") << status.error_message();
  }
}

TEST(Front, AChangeIsAnsweredWithThePositionBeforeItAndTheOneAfterIt) {
  FrontWorld world;
  world.log.Append("", StatusChange("a", v1::JOB_STATUS_CREATED));
  world.fake->SetAnswer([&world](const auto&, const auto&, auto*) {
    world.log.Append("", StatusChange("b", v1::JOB_STATUS_CREATED));
    world.log.Append("", StatusChange("b", v1::JOB_STATUS_RUNNING));
    return absl::OkStatus();
  });
  grpc::ClientContext context;
  v1::BlockdevAddResponse response;
  const grpc::Status status =
      v1::NodeService::NewStub(world.channel)->BlockdevAdd(&context, AddFile("/f"), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.event_sequence(), 1u);
  EXPECT_EQ(SequenceOf(context), "3");
  EXPECT_EQ(TrailerOf(context, "tidemark-log"), world.log.id());
  EXPECT_EQ(TrailerOf(context, "tidemark-unsaved"), "") << "there is no state folder";
}

TEST(Front, AnInvalidRequestNeverReachesTheEngine) {
  FrontWorld world;
  grpc::ClientContext context;
  v1::BlockdevDelResponse response;
  const grpc::Status status = v1::NodeService::NewStub(world.channel)
                                  ->BlockdevDel(&context, v1::BlockdevDelRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const google::rpc::ErrorInfo info = InfoOf(status);
  EXPECT_EQ(info.domain(), "tidemark");
  EXPECT_EQ(info.reason(), "INVALID_FIELD");
  EXPECT_EQ(info.metadata().at("field"), "node_name");
  EXPECT_EQ(info.metadata().at("qmp_class"), "GenericError");
  EXPECT_EQ(SequenceOf(context), "0") << "refusals carry the position too";
  EXPECT_EQ(TrailerOf(context, "tidemark-log"), world.log.id());
  EXPECT_THAT(world.fake->calls(), IsEmpty());
}

TEST(Front, ARefusalOfTheEngineArrivesWholeWithItsReason) {
  FrontWorld world;
  world.fake->SetAnswer([](const auto&, const auto&, auto*) {
    return Error(Reason::kBlockJobNotFound, "Cannot pause 'j': no such block job", {{"job", "j"}});
  });
  grpc::ClientContext context;
  v1::BlockJobPauseRequest request;
  request.set_device("j");
  v1::BlockJobPauseResponse response;
  const grpc::Status status =
      v1::JobService::NewStub(world.channel)->BlockJobPause(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "Cannot pause 'j': no such block job");
  EXPECT_EQ(InfoOf(status).reason(), "JOB_NOT_FOUND");
  EXPECT_EQ(InfoOf(status).metadata().at("job"), "j");
  EXPECT_EQ(InfoOf(status).metadata().at("qmp_class"), "DeviceNotActive");
}

TEST(Front, AnUnknownInstanceIsNotFoundByName) {
  FrontWorld world;
  grpc::ClientContext context;
  v1::BlockdevAddRequest request = AddFile("/f");
  request.set_instance("vm7");
  v1::BlockdevAddResponse response;
  const grpc::Status status =
      v1::NodeService::NewStub(world.channel)->BlockdevAdd(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(InfoOf(status).reason(), "INSTANCE_NOT_FOUND");
  EXPECT_EQ(InfoOf(status).metadata().at("instance"), "vm7");
}

TEST(Front, ACommandThatTheEngineLacksIsRefusedBeforeIt) {
  FrontWorld world;
  world.fake->mutable_capabilities().commands.erase("query-jobs");
  grpc::ClientContext context;
  v1::QueryJobsResponse response;
  const grpc::Status status = v1::JobService::NewStub(world.channel)
                                  ->QueryJobs(&context, v1::QueryJobsRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(InfoOf(status).reason(), "COMMAND_UNSUPPORTED");
  EXPECT_EQ(InfoOf(status).metadata().at("qmp_class"), "CommandNotFound");
  EXPECT_THAT(world.fake->calls(), IsEmpty());
}

// So no engine, log or book ever sees it.
TEST(Front, TextThatIsNotUtf8IsNoRequest) {
  FrontWorld world;
  v1::BlockdevDelRequest request;
  request.set_node_name("caf?");
  std::string bytes = request.SerializeAsString();
  bytes[bytes.find('?')] = '\xe9';
  EXPECT_FALSE(CallRaw(world, "/tidemark.block.v1.NodeService/BlockdevDel", bytes).ok());
  EXPECT_THAT(world.fake->calls(), IsEmpty());
}

TEST(Front, AStoppedDispatcherRefusesEverything) {
  FrontWorld world;
  world.dispatcher.Stop();
  grpc::ClientContext context;
  v1::QueryJobsResponse response;
  const grpc::Status status = v1::JobService::NewStub(world.channel)
                                  ->QueryJobs(&context, v1::QueryJobsRequest(), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(InfoOf(status).reason(), "SHUTTING_DOWN");
}

TEST(Front, ARequestThatIsTooLargeIsRefused) {
  FrontWorld world;
  const grpc::Status status = CallRaw(world, "/tidemark.block.v1.NodeService/BlockdevDel",
                                      std::string(kRequestBytesMax + 1, '\0'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(Front, OneClientHasHalfOfTheCallsThatMayBeUnderWay) {
  FrontWorld world({}, {}, {100, 1 << 20}, {4, 1 << 20});
  Mutex mutex;
  std::vector<backend::Backend::Done> waiting;
  const auto arrived = [&] {
    MutexLock lock(&mutex);
    return waiting.size();
  };
  world.fake->SetAsyncAnswer([&](backend::Backend::Done done) {
    MutexLock lock(&mutex);
    waiting.push_back(std::move(done));
  });
  const auto stub = v1::NodeService::NewStub(world.channel);
  const auto query = [&stub] {
    grpc::ClientContext context;
    v1::QueryNamedBlockNodesResponse response;
    return stub->QueryNamedBlockNodes(&context, {}, &response);
  };
  std::thread first([&] { EXPECT_TRUE(query().ok()); });
  std::thread second([&] { EXPECT_TRUE(query().ok()); });
  EXPECT_TRUE(Eventually([&] { return arrived() == 2; }));
  const grpc::Status refused = query();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(InfoOf(refused).reason(), "LIMIT_REACHED") << refused.error_message();
  for (const auto& done : waiting) done(absl::OkStatus());
  first.join();
  second.join();
  world.fake->SetAsyncAnswer(nullptr);
  EXPECT_TRUE(Eventually([&] { return query().ok(); })) << "what has ended takes no room";
}

TEST(Front, AReplyForWhichThereIsNoMemoryIsRefusedWithItsSize) {
  FrontWorld world({}, {}, {100, 1 << 20}, {100, 256 << 10});
  world.fake->SetAnswer([](const auto&, const auto&, google::protobuf::Message* response) {
    auto* const nodes = dynamic_cast<v1::QueryNamedBlockNodesResponse*>(response);
    nodes->add_nodes()->set_file(std::string(200 << 10, 'f'));
    return absl::OkStatus();
  });
  const auto stub = v1::NodeService::NewStub(world.channel);
  grpc::ClientContext context;
  v1::QueryNamedBlockNodesResponse response;
  const grpc::Status status = stub->QueryNamedBlockNodes(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(InfoOf(status).reason(), "LIMIT_REACHED");
  EXPECT_THAT(status.error_message(), testing::HasSubstr("too large: one client may have 131072"));
  EXPECT_TRUE(Eventually([&] { return world.calls.bytes() == 0; }));
}

TEST(Front, BytesThatAreNoMessageAreRefused) {
  FrontWorld world;
  const grpc::Status status =
      CallRaw(world, "/tidemark.block.v1.NodeService/BlockdevDel", "\xff\xff\xff");
  EXPECT_FALSE(status.ok());
}

TEST(Front, JobsAreAnsweredFromTheEventsAlone) {
  FrontWorld world;
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  const auto stub = v1::JobService::NewStub(world.channel);
  {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_id("j");
    v1::GetJobResponse response;
    ASSERT_TRUE(stub->GetJob(&context, request, &response).ok());
    EXPECT_EQ(response.job().status(), v1::JOB_STATUS_CREATED);
    EXPECT_EQ(SequenceOf(context), "1");
  }
  {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    ASSERT_TRUE(stub->ListJobs(&context, v1::ListJobsRequest(), &response).ok());
    EXPECT_EQ(response.jobs_size(), 1);
  }
  {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_id("nobody");
    v1::GetJobResponse response;
    const grpc::Status status = stub->GetJob(&context, request, &response);
    EXPECT_EQ(InfoOf(status).reason(), "JOB_NOT_FOUND");
    EXPECT_EQ(SequenceOf(context), "1");
  }
  {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_instance("nowhere");
    request.set_id("j");
    v1::GetJobResponse response;
    const grpc::Status status = stub->GetJob(&context, request, &response);
    EXPECT_EQ(InfoOf(status).reason(), "INSTANCE_NOT_FOUND");
  }
  EXPECT_THAT(world.fake->calls(), IsEmpty());
}

TEST(Front, CapabilitiesNameCommandsAndWhatTheyRefuse) {
  FrontWorld world;
  grpc::ClientContext context;
  v1::GetCapabilitiesResponse response;
  ASSERT_TRUE(v1::InstanceService::NewStub(world.channel)
                  ->GetCapabilities(&context, v1::GetCapabilitiesRequest(), &response)
                  .ok());
  EXPECT_EQ(response.engine(), v1::ENGINE_TYPE_NATIVE);
  EXPECT_EQ(response.engine_version(), "fake");
  EXPECT_EQ(response.service_version(), "1.2.3");
  EXPECT_EQ(response.limits().request_bytes(), static_cast<uint32_t>(kRequestBytesMax));
  const auto backup =
      std::find_if(response.commands().begin(), response.commands().end(),
                   [](const v1::CommandCapability& c) { return c.command() == "blockdev-backup"; });
  ASSERT_NE(backup, response.commands().end());
  EXPECT_EQ(backup->method(), "/tidemark.block.v1.JobService/BlockdevBackup");
  EXPECT_THAT(backup->unsupported_fields(), testing::Contains("discard_source"));
}

TEST(Front, HealthIsServed) {
  FrontWorld world;
  std::string reply;
  const grpc::Status status = CallRaw(world, "/grpc.health.v1.Health/Check", "", &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply, std::string("\x08\x01")) << "status SERVING";
}

// A tail whose disk is full until it is told otherwise.
class FullTail final : public backend::EventTail {
 public:
  absl::StatusOr<Saved> Load() override { return Saved(); }
  absl::Status Save(const std::vector<backend::EventPtr>&) override {
    return is_full ? absl::ResourceExhaustedError("the disk is full") : absl::OkStatus();
  }
  void AddGap() override {}

  std::atomic<bool> is_full{true};
};

TEST(Front, HealthAndCapabilitiesTellWhetherTheStateFolderCanBeWritten) {
  const auto tail = std::make_shared<FullTail>();
  backend::EventLogOptions options;
  options.tail = tail;
  FrontWorld world(options);
  const auto health = [&world] {
    std::string reply;
    const std::string state_of = absl::StrCat("\x0a\x0e", kStateHealth);
    EXPECT_TRUE(CallRaw(world, "/grpc.health.v1.Health/Check", state_of, &reply).ok());
    return reply;
  };
  const auto folder = [&world] {
    grpc::ClientContext context;
    v1::GetCapabilitiesResponse response;
    EXPECT_TRUE(v1::InstanceService::NewStub(world.channel)
                    ->GetCapabilities(&context, v1::GetCapabilitiesRequest(), &response)
                    .ok());
    EXPECT_EQ(response.log_id(), world.log.id());
    return response.state_folder();
  };
  EXPECT_EQ(health(), std::string("\x08\x01"));
  EXPECT_TRUE(folder().present());
  EXPECT_EQ(folder().error(), "");
  world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  EXPECT_TRUE(Eventually([&] { return health() == std::string("\x08\x02"); })) << "NOT_SERVING";
  EXPECT_EQ(folder().error(), "the disk is full");
  std::string whole;
  EXPECT_TRUE(CallRaw(world, "/grpc.health.v1.Health/Check", "", &whole).ok());
  EXPECT_EQ(whole, std::string("\x08\x01")) << "it serves all the same";
  tail->is_full = false;
  EXPECT_TRUE(Eventually([&] { return health() == std::string("\x08\x01"); }));
  EXPECT_EQ(folder().error(), "");
}

// Whoever acts on a reply is told that the next process may not know of it.
TEST(Front, RepliesAreMarkedWhileWhatTheyTellIsNotSaved) {
  const auto tail = std::make_shared<FullTail>();
  backend::EventLogOptions options;
  options.tail = tail;
  FrontWorld world(options);
  const auto stub = v1::JobService::NewStub(world.channel);
  const auto query = [&stub] {
    grpc::ClientContext context;
    v1::QueryJobsResponse response;
    EXPECT_TRUE(stub->QueryJobs(&context, v1::QueryJobsRequest(), &response).ok());
    return TrailerOf(context, kUnsavedKey);
  };
  const auto refused = [&stub] {
    grpc::ClientContext context;
    v1::JobPauseResponse response;
    EXPECT_FALSE(stub->JobPause(&context, v1::JobPauseRequest(), &response).ok());
    return TrailerOf(context, kUnsavedKey);
  };
  EXPECT_EQ(query(), "") << "nothing has happened";
  world.fake->SetAnswer([&world](const auto&, const auto&, auto*) {
    world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
    return absl::OkStatus();
  });
  EXPECT_EQ(query(), "true");
  EXPECT_EQ(refused(), "true");
  tail->is_full = false;
  EXPECT_TRUE(Eventually([&] { return world.log.saving().ok(); }));
  EXPECT_EQ(query(), "");
  EXPECT_EQ(refused(), "");
}

// With a tail, whoever has the reply to a command finds the job that it started.
TEST(Front, AReplyWaitsUntilWhatItCausedIsShown) {
  class SlowTail final : public backend::EventTail {
   public:
    absl::StatusOr<Saved> Load() override { return Saved(); }
    absl::Status Save(const std::vector<backend::EventPtr>&) override {
      go.Wait();
      return absl::OkStatus();
    }
    void AddGap() override {}
    Notification go;
  };
  const auto tail = std::make_shared<SlowTail>();
  SerialExecutor saver("saver");
  backend::EventLogOptions options;
  options.tail = tail;
  options.saver = &saver;
  FrontWorld world(options);
  world.fake->SetAnswer([&world](const auto&, const auto&, auto*) {
    world.log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
    return absl::OkStatus();
  });
  std::atomic<bool> answered{false};
  std::thread client([&] {
    grpc::ClientContext context;
    v1::BlockdevDelRequest request;
    request.set_node_name("n");
    v1::BlockdevDelResponse response;
    EXPECT_TRUE(
        v1::NodeService::NewStub(world.channel)->BlockdevDel(&context, request, &response).ok());
    answered = true;
    EXPECT_EQ(SequenceOf(context), "1");
    EXPECT_EQ(world.log.shown(), 1u);
  });
  EXPECT_TRUE(Eventually([&] { return world.log.position() == 1; }));
  // Another call is answered meanwhile: it is not the way that is blocked.
  grpc::ClientContext context;
  v1::ListJobsResponse jobs;
  EXPECT_TRUE(v1::JobService::NewStub(world.channel)
                  ->ListJobs(&context, v1::ListJobsRequest(), &jobs)
                  .ok());
  EXPECT_EQ(jobs.jobs_size(), 0);
  EXPECT_FALSE(answered);
  tail->go.Notify();
  client.join();
}

TEST(Front, ReflectionListsEveryService) {
  FrontWorld world;
  grpc::GenericStub stub(world.channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  grpc::Slice slice(std::string("\x3a\x01*"));  // list_services: "*"
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(next());
  grpc::ByteBuffer response;
  call->Read(&response, nullptr);
  ASSERT_TRUE(next());
  grpc::Slice whole;
  ASSERT_TRUE(response.DumpToSingleSlice(&whole).ok());
  const std::string bytes(reinterpret_cast<const char*>(whole.begin()), whole.size());
  for (const char* name :
       {"NodeService", "BitmapService", "JobService", "TransactionService", "ExportService",
        "DeviceService", "MachineService", "ObjectService", "EventService", "InstanceService"}) {
    EXPECT_TRUE(absl::StrContains(bytes, absl::StrCat("tidemark.block.v1.", name))) << name;
  }
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
}

}  // namespace
}  // namespace tidemark::rpc
