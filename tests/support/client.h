// A client of the service: one channel, typed calls, errors taken apart. Any thread.
#ifndef TESTS_SUPPORT_CLIENT_H_
#define TESTS_SUPPORT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/support/rpc.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace tidemark::test {

// Why a call was refused: the status, and the google.rpc.ErrorInfo that came with it.
struct Refusal {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string message;
  std::string domain;
  std::string reason;
  std::map<std::string, std::string> metadata;

  bool ok() const { return code == absl::StatusCode::kOk; }
  friend std::ostream& operator<<(std::ostream& out, const Refusal& refusal);
};

template <class Response>
struct Reply {
  Refusal refusal;
  Response value;
  // The trailing metadata `tidemark-sequence`; 0 if it was missing.
  uint64_t sequence = 0;
  // The trailing metadata `tidemark-unsaved` was there.
  bool unsaved = false;

  bool ok() const { return refusal.ok(); }
  const Response* operator->() const { return &value; }
  friend std::ostream& operator<<(std::ostream& out, const Reply& reply) {
    if (reply.ok()) return out << "accepted: {" << reply.value.ShortDebugString() << "}";
    return out << reply.refusal;
  }
};

class Client {
 public:
  // `address` as gRPC writes it: "unix:/path" or "host:port". Every request is for `instance`.
  explicit Client(const std::string& address, std::string instance = "");
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const std::string& instance() const { return instance_; }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  template <class Request>
  Reply<typename RpcOf<Request>::Response> Invoke(Request request) {
    if constexpr (requires { request.instance(); }) {
      if (request.instance().empty()) request.set_instance(instance_);
    }
    Reply<typename RpcOf<Request>::Response> reply;
    reply.refusal =
        Call(RpcOf<Request>::kPath, request, &reply.value, &reply.sequence, &reply.unsaved);
    return reply;
  }

  // Calls any method by its path.
  Refusal Call(const std::string& path, const google::protobuf::Message& request,
               google::protobuf::Message* response, uint64_t* sequence, bool* unsaved = nullptr);

  // Follows a job to its end; what the stream gave, and how it ended.
  std::pair<std::vector<v1::Job>, Refusal> WatchJob(v1::WatchJobRequest request);

  // Reads a stream of events until `enough`, which sees each response, or until it has ended; how
  // it ended.
  Refusal WatchEvents(const v1::WatchEventsRequest& request,
                      const std::function<bool(const v1::WatchEventsResponse&)>& enough);
  // The same until `count` responses have come; they too.
  std::pair<std::vector<v1::WatchEventsResponse>, Refusal> WatchEvents(
      const v1::WatchEventsRequest& request, size_t count);

  // The same with a stream of instances.
  Refusal WatchInstances(const v1::WatchInstancesRequest& request,
                         const std::function<bool(const v1::WatchInstancesResponse&)>& enough);
  // Follows one instance until it is in `state`; as it is then. Without an id: that took too long.
  v1::Instance WaitForInstance(const std::string& id, v1::InstanceState state);

  // Asks grpc.health.v1.Health until it says SERVING; false if that takes longer.
  bool WaitUntilServing(absl::Duration timeout);

 private:
  const std::string instance_;
  const std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_CLIENT_H_
