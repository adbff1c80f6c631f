#include "tests/support/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <stdlib.h>

#include <chrono>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/support/refusal.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/instance.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::test {
namespace {

// Long enough for a loaded machine: a call that takes longer hangs.
constexpr std::chrono::seconds kDeadline(60);
constexpr std::chrono::seconds kStreamDeadline(120);

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  // Between calls nobody looks at a channel but gRPC itself, unless told else every five seconds: a
  // service that ends would wait for this client to let go.
  setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "20", /*overwrite=*/0);
  grpc::ChannelArguments arguments;
  // Servers come and go under the same address within one test.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  // Also the time that one attempt may take, which on a loaded machine is long.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

uint64_t SequenceOf(const grpc::ClientContext& context) {
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto found = trailing.find("tidemark-sequence");
  uint64_t sequence = 0;
  if (found == trailing.end()) return 0;
  if (!absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()), &sequence)) {
    return 0;
  }
  return sequence;
}

// In the caller's thread alone, as clients of the plain interface do: the callback interface would
// start threads that take part in all calls of the process from then on.
template <class Request, class Response>
grpc::Status Unary(grpc::TemplatedGenericStub<Request, Response>* stub,
                   grpc::ClientContext* context, const std::string& path, const Request& request,
                   Response* response) {
  grpc::CompletionQueue queue;
  const auto call = stub->PrepareUnaryCall(context, path, request, &queue);
  call->StartCall();
  grpc::Status status;
  call->Finish(response, &status, nullptr);
  void* tag;
  bool is_complete;
  queue.Next(&tag, &is_complete);
  return status;
}

// Streams also outlast a service that is being started anew.
void PrepareForStream(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() + kStreamDeadline);
  context->set_wait_for_ready(true);
}

// Until `enough`, which sees each response, or until the stream has ended; how it ended.
template <class Response>
Refusal ReadUntil(grpc::ClientContext* context, grpc::ClientReader<Response>* stream,
                  const std::function<bool(const Response&)>& enough) {
  Response response;
  while (stream->Read(&response)) {
    if (!enough(response)) continue;
    context->TryCancel();
    stream->Finish();
    return Refusal();
  }
  return RefusalOf(stream->Finish());
}

}  // namespace

Refusal RefusalOf(const grpc::Status& status) {
  Refusal refusal;
  refusal.code = static_cast<absl::StatusCode>(status.error_code());
  refusal.message = status.error_message();
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return refusal;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    if (!detail.UnpackTo(&info)) continue;
    refusal.domain = info.domain();
    refusal.reason = info.reason();
    refusal.metadata.insert(info.metadata().begin(), info.metadata().end());
  }
  return refusal;
}

std::ostream& operator<<(std::ostream& out, const Refusal& refusal) {
  if (refusal.ok()) return out << "accepted";
  out << absl::StatusCodeToString(refusal.code) << " (" << refusal.reason << "): \""
      << refusal.message << "\"";
  for (const auto& [key, value] : refusal.metadata) out << " " << key << "=" << value;
  return out;
}

Client::Client(const std::string& address, std::string instance)
    : instance_(std::move(instance)), channel_(Connect(address)) {}

Client::~Client() = default;

Refusal Client::Call(const std::string& path, const google::protobuf::Message& request,
                     google::protobuf::Message* response, uint64_t* sequence, bool* unsaved) {
  grpc::TemplatedGenericStub<google::protobuf::Message, google::protobuf::Message> stub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  const grpc::Status status = Unary(&stub, &context, path, request, response);
  if (sequence != nullptr) *sequence = SequenceOf(context);
  if (unsaved != nullptr) {
    *unsaved = context.GetServerTrailingMetadata().count("tidemark-unsaved") > 0;
  }
  return RefusalOf(status);
}

std::pair<std::vector<v1::Job>, Refusal> Client::WatchJob(v1::WatchJobRequest request) {
  request.set_instance(instance_);
  const auto stub = v1::JobService::NewStub(channel_);
  grpc::ClientContext context;
  PrepareForStream(&context);
  const auto stream = stub->WatchJob(&context, request);
  std::vector<v1::Job> jobs;
  v1::WatchJobResponse response;
  while (stream->Read(&response)) jobs.push_back(response.job());
  return {std::move(jobs), RefusalOf(stream->Finish())};
}

Refusal Client::WatchEvents(const v1::WatchEventsRequest& request,
                            const std::function<bool(const v1::WatchEventsResponse&)>& enough) {
  const auto stub = v1::EventService::NewStub(channel_);
  grpc::ClientContext context;
  PrepareForStream(&context);
  return ReadUntil(&context, stub->WatchEvents(&context, request).get(), enough);
}

std::pair<std::vector<v1::WatchEventsResponse>, Refusal> Client::WatchEvents(
    const v1::WatchEventsRequest& request, size_t count) {
  std::vector<v1::WatchEventsResponse> responses;
  Refusal end = WatchEvents(request, [&](const v1::WatchEventsResponse& response) {
    responses.push_back(response);
    return responses.size() == count;
  });
  return {std::move(responses), std::move(end)};
}

Refusal Client::WatchInstances(
    const v1::WatchInstancesRequest& request,
    const std::function<bool(const v1::WatchInstancesResponse&)>& enough) {
  const auto stub = v1::InstanceService::NewStub(channel_);
  grpc::ClientContext context;
  PrepareForStream(&context);
  return ReadUntil(&context, stub->WatchInstances(&context, request).get(), enough);
}

v1::Instance Client::WaitForInstance(const std::string& id, v1::InstanceState state) {
  v1::WatchInstancesRequest request;
  request.add_instances(id);
  v1::Instance found;
  WatchInstances(request, [&](const v1::WatchInstancesResponse& response) {
    if (response.instance().state() != state) return false;
    found = response.instance();
    return true;
  });
  return found;
}

bool Client::WaitUntilServing(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  grpc::GenericStub stub(channel_);
  // A HealthCheckRequest for the whole server has no bytes; SERVING is field 1 with value 1.
  const std::string serving("\x08\x01");
  while (absl::Now() < deadline) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
    // Connecting goes on only while a call waits for it: no other thread looks after the channel.
    context.set_wait_for_ready(true);
    const grpc::Slice nothing;
    grpc::ByteBuffer request(&nothing, 1);
    grpc::ByteBuffer response;
    const grpc::Status status =
        Unary(&stub, &context, "/grpc.health.v1.Health/Check", request, &response);
    grpc::Slice bytes;
    if (status.ok() && response.DumpToSingleSlice(&bytes).ok() &&
        std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size()) == serving) {
      return true;
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

}  // namespace tidemark::test
