// What a stream holds for a reader who is slow.
#include <string>

#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/event.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

backend::Event LongEvent(size_t bytes) {
  backend::Event event;
  event.mutable_block_job_completed()->set_device("j");
  event.mutable_block_job_completed()->set_error(std::string(bytes, 'e'));
  return event;
}

// A watch of all that has happened.
class Watch {
 public:
  explicit Watch(FrontWorld& world)
      : stub_(v1::EventService::NewStub(world.channel)), reader_(Open(*stub_, &context_)) {}
  ~Watch() { context_.TryCancel(); }

  // The sequence of the next event; 0 at the end.
  uint64_t Next() {
    v1::WatchEventsResponse response;
    do {
      if (!reader_->Read(&response)) return 0;
    } while (!response.has_event());
    return response.event().sequence();
  }

 private:
  static std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> Open(
      v1::EventService::Stub& stub, grpc::ClientContext* context) {
    v1::WatchEventsRequest request;
    request.set_after(0);
    return stub.WatchEvents(context, request);
  }

  const std::unique_ptr<v1::EventService::Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> reader_;
};

// Events that the log drops meanwhile live on in the stream.
TEST(StreamMemory, WhatASlowReaderHasReadIsOfItsClient) {
  FrontWorld world({}, {}, {100, 16 << 20});
  constexpr size_t kCount = 100;
  constexpr size_t kBytes = 16 << 10;
  for (size_t i = 0; i < kCount; ++i) world.log.Append("", LongEvent(kBytes));
  Watch slow(world);
  EXPECT_TRUE(Eventually([&] { return world.streams.bytes() > kCount * kBytes; }));
  for (size_t i = 1; i <= kCount; ++i) EXPECT_EQ(slow.Next(), i);
  EXPECT_TRUE(Eventually([&] { return world.streams.bytes() < kBytes; })) << "it has sent it";
}

TEST(StreamMemory, AReaderWhoseClientHasNoneLeftGoesOnEventByEvent) {
  FrontWorld world({}, {}, {100, 64 << 10});
  for (int i = 0; i < 20; ++i) world.log.Append("", LongEvent(20 << 10));
  Watch watch(world);
  for (uint64_t i = 1; i <= 20; ++i) {
    EXPECT_EQ(watch.Next(), i);
    EXPECT_LT(world.streams.bytes(), 40u << 10);
  }
}

}  // namespace
}  // namespace tidemark::rpc
