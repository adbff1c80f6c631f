#include "service/rpc/built_in_streams.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/event.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

// Opens streams that gRPC serves by itself, one after the other, until one is refused.
class BuiltInStreamsTest : public testing::Test {
 protected:
  struct Stream {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;

    bool Next() {
      void* tag = nullptr;
      bool ok = false;
      return queue.Next(&tag, &ok) && ok;
    }
    grpc::Status Finish() {
      grpc::Status status;
      call->Finish(&status, nullptr);
      Next();
      return status;
    }
    ~Stream() {
      if (call == nullptr) return;
      context.TryCancel();
      Finish();
    }
  };

  // Whether it is answered; then it stays open.
  bool Open(const std::string& method, const std::string& request) {
    auto stream = std::make_unique<Stream>();
    grpc::GenericStub stub(world_.channel);
    stream->call = stub.PrepareCall(&stream->context, method, &stream->queue);
    stream->call->StartCall(nullptr);
    stream->Next();
    const grpc::Slice slice(request);
    stream->call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    stream->Next();
    grpc::ByteBuffer response;
    stream->call->Read(&response, nullptr);
    if (stream->Next()) {
      open_.push_back(std::move(stream));
      return true;
    }
    refusal_ = stream->Finish();
    stream->call = nullptr;
    return false;
  }
  int OpenAll(const std::string& method, const std::string& request) {
    while (Open(method, request)) {
    }
    return static_cast<int>(open_.size());
  }

  FrontWorld world_{{}, {}, {8, 1 << 20}};
  std::vector<std::unique_ptr<Stream>> open_;
  grpc::Status refusal_;
};

constexpr char kReflect[] = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

TEST_F(BuiltInStreamsTest, OneClientHasHalfOfTheStreamsOfReflection) {
  const std::string list_services("\x3a\x01*");
  EXPECT_EQ(OpenAll(kReflect, list_services), static_cast<int>(kReflectionStreamsMax) / 2);
  EXPECT_EQ(refusal_.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(absl::StrContains(refusal_.error_message(), "reflection stream"))
      << refusal_.error_message();
  open_.pop_back();
  EXPECT_TRUE(Eventually([&] { return Open(kReflect, list_services); }));
}

TEST_F(BuiltInStreamsTest, WatchesOfHealthAreStreamsOfTheirClient) {
  EXPECT_EQ(OpenAll("/grpc.health.v1.Health/Watch", ""), 4);
  EXPECT_EQ(refusal_.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(CallRaw(world_, "/grpc.health.v1.Health/Check", "").error_code(), grpc::StatusCode::OK);
  grpc::ClientContext context;
  const auto stream =
      v1::EventService::NewStub(world_.channel)->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace tidemark::rpc
