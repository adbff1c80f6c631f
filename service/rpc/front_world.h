// For tests: the whole front over a FakeBackend, serving on a unix socket, and a client's channel.
#ifndef SERVICE_RPC_FRONT_WORLD_H_
#define SERVICE_RPC_FRONT_WORLD_H_

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/event_log.h"
#include "engine/backend/job_book.h"
#include "engine/backend/testing/fake_backend.h"
#include "engine/backend/testing/fake_registry.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "service/dispatch/testing/map_router.h"
#include "service/rpc/error_status.h"
#include "service/rpc/server.h"

namespace tidemark::rpc {

// A folder of its own with a short name: paths of sockets are short.
class Folder {
 public:
  Folder() {
    char pattern[] = "/tmp/tidemark-XXXXXX";
    path_ = std::filesystem::canonical(mkdtemp(pattern));
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string operator/(absl::string_view name) const { return absl::StrCat(path_, "/", name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct FrontWorld {
  explicit FrontWorld(backend::EventLogOptions options = {}, PathPolicy policy = {},
                      Admission::Limits streams_limits = {kStreamsMax, 16 << 20},
                      Admission::Limits calls_limits = {kCallsMax, 256 << 20})
      : paths(std::move(policy)),
        log(SystemClock(), executor, std::move(options)),
        calls("call", calls_limits),
        streams(streams_limits) {
    router.Set("", fake);
    ServerOptions server_options;
    server_options.listen.push_back(*ParseListenAddress("unix:" + folder / "s"));
    auto started = Server::Start(front, server_options, Guard());
    EXPECT_TRUE(started.ok()) << started.status();
    if (!started.ok()) return;
    server = *std::move(started);
    channel = grpc::CreateChannel("unix:" + folder / "s", grpc::InsecureChannelCredentials());
  }
  ~FrontWorld() {
    streams.EndAll();
    if (server != nullptr) server->Stop();
  }

  Folder folder;
  WorkerPool executor{"test", 2};
  PathPolicy paths;
  backend::EventLog log;
  backend::JobBook jobs{log};
  dispatch::MapRouter router;
  backend::FakeRegistry registry{log};
  LookupPool lookups{executor};
  dispatch::Dispatcher dispatcher{router, log, paths, lookups};
  Admission calls;
  StreamSet streams;
  Front front{router, registry, log,           jobs,     dispatcher,
              calls,  streams,  SystemClock(), executor, "1.2.3"};
  std::shared_ptr<backend::FakeBackend> fake = std::make_shared<backend::FakeBackend>();
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
};

// Sends one message of bytes to a method and gives the status.
inline grpc::Status CallRaw(FrontWorld& world, const std::string& method, const std::string& bytes,
                            std::string* reply = nullptr) {
  grpc::GenericStub stub(world.channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
  call->StartCall();
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  EXPECT_TRUE(queue.Next(&tag, &ok));
  if (status.ok() && reply != nullptr) {
    grpc::Slice whole;
    EXPECT_TRUE(response.DumpToSingleSlice(&whole).ok());
    reply->assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
  }
  return status;
}

// The ErrorInfo of a status; empty if it has none.
inline google::rpc::ErrorInfo InfoOf(const grpc::Status& status) {
  google::rpc::Status rich;
  google::rpc::ErrorInfo info;
  if (!rich.ParseFromString(status.error_details()) || rich.details_size() != 1 ||
      !rich.details(0).UnpackTo(&info)) {
    return {};
  }
  return info;
}

// A value of the trailing metadata; "" if absent.
inline std::string TrailerOf(const grpc::ClientContext& context, const std::string& key) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}
inline std::string SequenceOf(const grpc::ClientContext& context) {
  return TrailerOf(context, kSequenceKey);
}

// Whether `condition` comes true. Gives up after a time that only a broken program needs.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_FRONT_WORLD_H_
