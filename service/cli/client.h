// Calls RPCs by their descriptors. One thread at a time.
#ifndef SERVICE_CLI_CLIENT_H_
#define SERVICE_CLI_CLIENT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "grpcpp/channel.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/status.h"

namespace tidemark::cli {

struct ClientOptions {
  // "unix:PATH" or "HOST:PORT".
  std::string address;
  // Files; with any of them the connection is TLS.
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  // A file with the token that each call sends, or the token itself; both empty: none. Only with
  // TLS.
  std::string token_file;
  std::string token;
  // For each call; streams have none.
  absl::Duration timeout = absl::InfiniteDuration();
};

class Client {
 public:
  // Connects when first used. NOT_FOUND for files that cannot be read. INVALID_ARGUMENT for a token
  // that cannot be sent.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const ClientOptions& options);

  grpc::Status Call(const google::protobuf::MethodDescriptor& method,
                    const google::protobuf::Message& request, google::protobuf::Message* response) {
    return Call(method, request, response, options_.timeout);
  }
  // With a time limit of its own.
  grpc::Status Call(const google::protobuf::MethodDescriptor& method,
                    const google::protobuf::Message& request, google::protobuf::Message* response,
                    absl::Duration timeout);

  // Calls a method that streams its responses: `on_response` for each, until the stream ends or it
  // returns false (the call is then cancelled, and OK is returned). UNAVAILABLE if nothing comes
  // for `silence_max`.
  grpc::Status Stream(const google::protobuf::MethodDescriptor& method,
                      const google::protobuf::Message& request, google::protobuf::Message* response,
                      const std::function<bool()>& on_response,
                      absl::Duration silence_max = absl::InfiniteDuration());

  const std::string& address() const { return options_.address; }

 private:
  Client(const ClientOptions& options, std::shared_ptr<grpc::Channel> channel);

  const ClientOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_CLIENT_H_
