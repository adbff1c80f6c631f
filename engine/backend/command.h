// The commands of the mirror API, learned from the descriptors of its services: no code lists them.
// All here is constant after the first use and lives as long as the process. Any thread.
#ifndef ENGINE_BACKEND_COMMAND_H_
#define ENGINE_BACKEND_COMMAND_H_

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::backend {

class Backend;

// How an engine orders a command among others.
enum class CommandKind {
  kQuery,    // Changes nothing; overtakes waiting commands.
  kJobVerb,  // Acts on one running job; overtakes waiting commands.
  kGraph,    // Changes nodes, bitmaps or exports, or starts a job: in order, as Backend::Call says.
};

// One RPC that mirrors a QMP command.
struct Command {
  const google::protobuf::MethodDescriptor* method = nullptr;
  // QMP's name: "blockdev-backup".
  std::string qmp_name;
  // As gRPC spells it, without the first slash: "tidemark.block.v1.JobService/BlockdevBackup".
  std::string rpc_name;
  CommandKind kind = CommandKind::kGraph;
  // What to use instead if QEMU calls the command deprecated; else empty.
  std::string deprecated;
  // Null where the message has no such field.
  const google::protobuf::FieldDescriptor* request_instance = nullptr;
  const google::protobuf::FieldDescriptor* response_event_sequence = nullptr;

  // Default instances of the generated types, to make new messages from: request->New().
  const google::protobuf::Message* request = nullptr;
  const google::protobuf::Message* response = nullptr;
};

// Every command. Each lookup answers null for what is no command.
class CommandIndex {
 public:
  // The commands of `tidemark.block.v1`.
  static const CommandIndex& Get();

  const Command* ByRequest(const google::protobuf::Descriptor* request) const;
  const Command* ByQmpName(absl::string_view qmp_name) const;
  // With or without a first slash; also "package.Service.Method".
  const Command* ByRpcName(absl::string_view rpc_name) const;

  // In the order of the protos.
  const std::vector<std::unique_ptr<const Command>>& commands() const { return commands_; }

 private:
  CommandIndex();
  void AddService(const google::protobuf::ServiceDescriptor& service);

  std::vector<std::unique_ptr<const Command>> commands_;
  absl::flat_hash_map<const google::protobuf::Descriptor*, const Command*> by_request_;
  absl::flat_hash_map<std::string, const Command*> by_qmp_name_;
  absl::flat_hash_map<std::string, const Command*> by_rpc_name_;
};

// Calls the command whose request type is that of `request`; `done` gets its response. The request
// is copied.
//   Invoke<BlockdevAddResponse>(backend, request, [](absl::StatusOr<BlockdevAddResponse> r) {...});
// A Response that is not the command's is a programmer's error.
void InvokeMessage(Backend& backend, const google::protobuf::Message& request,
                   const google::protobuf::Descriptor* response_type,
                   std::function<void(absl::Status, google::protobuf::Message*)> done);

template <typename Response>
void Invoke(Backend& backend, const google::protobuf::Message& request,
            std::function<void(absl::StatusOr<Response>)> done) {
  InvokeMessage(backend, request, Response::descriptor(),
                [done = std::move(done)](absl::Status status, google::protobuf::Message* response) {
                  if (status.ok()) {
                    done(std::move(*static_cast<Response*>(response)));
                  } else {
                    done(std::move(status));
                  }
                });
}

// The same, waiting for the answer: for workers and tests, never for a thread that must not block.
template <typename Response>
absl::StatusOr<Response> InvokeAndWait(Backend& backend, const google::protobuf::Message& request) {
  // Shared: the calling thread may be gone with the answer before `done` has returned.
  auto promise = std::make_shared<std::promise<absl::StatusOr<Response>>>();
  auto answer = promise->get_future();
  Invoke<Response>(backend, request, [promise](absl::StatusOr<Response> response) {
    promise->set_value(std::move(response));
  });
  return answer.get();
}

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_COMMAND_H_
