#include "service/cli/client.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/memory/memory.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/channel_arguments.h"
#include "grpcpp/support/slice.h"
#include "service/cli/methods.h"

namespace tidemark::cli {
namespace {

constexpr int kResponseBytesMax = 64 << 20;
constexpr int kReconnectMillisecondsMax = 5000;

grpc::ByteBuffer Serialize(const google::protobuf::Message& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

grpc::Status Parse(const grpc::ByteBuffer& buffer, google::protobuf::Message* message) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (buffer.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) {
      bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    if (message->ParseFromString(bytes)) return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::INTERNAL, "the response is not a message of the API");
}

absl::Status ReadFile(const std::string& path, std::string* text) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path);
  std::stringstream all;
  all << file.rdbuf();
  if (!file || all.str().empty()) {
    return Error(Reason::kFileNotFound, absl::StrCat("cannot read ", path), {{"file", path}});
  }
  *text = all.str();
  return absl::OkStatus();
}

// Without white space at its ends, as an editor leaves it in a file.
absl::StatusOr<std::string> TokenOf(const ClientOptions& options) {
  std::string text = options.token;
  RETURN_IF_ERROR(ReadFile(options.token_file, &text));
  const std::string token(absl::StripAsciiWhitespace(text));
  if (std::all_of(token.begin(), token.end(), absl::ascii_isgraph) &&
      text.empty() == token.empty()) {
    return token;
  }
  return Error(Reason::kInvalidField,
               absl::StrCat("there is no token in ",
                            options.token_file.empty() ? "TIDEMARK_TOKEN" : options.token_file,
                            ": it is one word of printable characters"));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(
    const ClientOptions& options) {
  if (options.tls_ca.empty() && options.tls_cert.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions tls;
  RETURN_IF_ERROR(ReadFile(options.tls_ca, &tls.pem_root_certs));
  RETURN_IF_ERROR(ReadFile(options.tls_cert, &tls.pem_cert_chain));
  RETURN_IF_ERROR(ReadFile(options.tls_key, &tls.pem_private_key));
  ASSIGN_OR_RETURN(const std::string token, TokenOf(options));
  if (token.empty()) return grpc::SslCredentials(tls);
  return grpc::CompositeChannelCredentials(grpc::SslCredentials(tls),
                                           grpc::AccessTokenCredentials(token));
}

void SetDeadline(absl::Duration timeout, grpc::ClientContext* context) {
  if (timeout == absl::InfiniteDuration()) return;
  context->set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout));
}

// Waits for the one operation that is under way; false if it failed.
bool Await(grpc::CompletionQueue* queue) {
  void* tag;
  bool ok = false;
  CHECK(queue->Next(&tag, &ok));
  return ok;
}

// The same within a time limit; false, with the operation still under way, when that is over.
bool AwaitFor(absl::Duration limit, grpc::CompletionQueue* queue, bool* ok) {
  if (limit == absl::InfiniteDuration()) {
    *ok = Await(queue);
    return true;
  }
  void* tag;
  const auto deadline = std::chrono::system_clock::now() + absl::ToChronoMilliseconds(limit);
  const auto next = queue->AsyncNext(&tag, ok, deadline);
  CHECK(next != grpc::CompletionQueue::SHUTDOWN);
  return next == grpc::CompletionQueue::GOT_EVENT;
}

// The tags tell nothing: one operation is under way at a time.
void* const kTag = nullptr;

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientOptions& options) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                   Credentials(options));
  grpc::ChannelArguments arguments;
  // The daemon is a neighbour; a proxy for the web is no way to it.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kResponseBytesMax);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMillisecondsMax);
  return absl::WrapUnique(
      new Client(options, grpc::CreateCustomChannel(options.address, credentials, arguments)));
}

Client::Client(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel)
    : options_(options),
      channel_(std::move(channel)),
      stub_(std::make_unique<grpc::GenericStub>(channel_)) {}

grpc::Status Client::Call(const google::protobuf::MethodDescriptor& method,
                          const google::protobuf::Message& request,
                          google::protobuf::Message* response, absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(timeout, &context);
  grpc::CompletionQueue queue;
  const auto call = stub_->PrepareUnaryCall(&context, RpcPath(method), Serialize(request), &queue);
  call->StartCall();
  grpc::ByteBuffer buffer;
  grpc::Status status;
  call->Finish(&buffer, &status, kTag);
  Await(&queue);
  return status.ok() ? Parse(buffer, response) : status;
}

grpc::Status Client::Stream(const google::protobuf::MethodDescriptor& method,
                            const google::protobuf::Message& request,
                            google::protobuf::Message* response,
                            const std::function<bool()>& on_response, absl::Duration silence_max) {
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub_->PrepareCall(&context, RpcPath(method), &queue);
  call->StartCall(kTag);
  bool ok = Await(&queue);
  if (ok) {
    call->WriteLast(Serialize(request), grpc::WriteOptions(), kTag);
    ok = Await(&queue);
  }
  // Why we broke off, if it was us.
  absl::optional<grpc::Status> ours;
  while (ok) {
    grpc::ByteBuffer buffer;
    call->Read(&buffer, kTag);
    if (!AwaitFor(silence_max, &queue, &ok)) {
      ours =
          grpc::Status(grpc::StatusCode::UNAVAILABLE,
                       absl::StrCat("nothing was heard for ", absl::FormatDuration(silence_max)));
      context.TryCancel();
      ok = Await(&queue);
    }
    if (!ok || ours.has_value()) continue;
    if (const grpc::Status parsed = Parse(buffer, response); !parsed.ok()) {
      ours = parsed;
    } else if (!on_response()) {
      ours = grpc::Status::OK;
    }
    if (ours.has_value()) context.TryCancel();
  }
  grpc::Status status;
  call->Finish(&status, kTag);
  Await(&queue);
  return ours.value_or(status);
}

}  // namespace tidemark::cli
