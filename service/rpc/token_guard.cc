#include "service/rpc/token_guard.h"

#include <utility>

#include "absl/strings/string_view.h"
#include "grpc/grpc_security_constants.h"
#include "grpc/slice.h"

namespace tidemark::rpc {
namespace {

using Held = std::shared_ptr<const Tokens>;

absl::string_view Text(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

// Null: the call may go on.
const char* Fault(const Tokens& tokens, const grpc_auth_context* context,
                  const grpc_metadata* metadata, size_t count) {
  auto certificates =
      grpc_auth_context_find_properties_by_name(context, GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (grpc_auth_property_iterator_next(&certificates) != nullptr) return nullptr;
  bool has_token = false;
  for (size_t i = 0; i < count; ++i) {
    if (Text(metadata[i].key) != kAuthorizationKey) continue;
    const auto token = BearerToken(Text(metadata[i].value));
    if (!token.has_value()) continue;
    if (tokens.NameOf(*token).has_value()) return nullptr;
    has_token = true;
  }
  return has_token ? "The token of this call is none of the service's tokens (--token_file)"
                   : "This service asks each call for a token: send the metadata `authorization: "
                     "Bearer TOKEN`";
}

void Process(void* state, grpc_auth_context* context, const grpc_metadata* metadata, size_t count,
             grpc_process_auth_metadata_done_cb done, void* user_data) {
  const char* const fault = Fault(**static_cast<Held*>(state), context, metadata, count);
  // Nothing is consumed: whoever wants to know who called looks again.
  done(user_data, nullptr, 0, nullptr, 0,
       fault == nullptr ? GRPC_STATUS_OK : GRPC_STATUS_UNAUTHENTICATED, fault);
}

}  // namespace

void AskForTokens(grpc_server_credentials* credentials, std::shared_ptr<const Tokens> tokens) {
  grpc_auth_metadata_processor processor = {};
  processor.process = &Process;
  processor.destroy = [](void* state) { delete static_cast<Held*>(state); };
  processor.state = new Held(std::move(tokens));
  grpc_server_credentials_set_auth_metadata_processor(credentials, processor);
}

}  // namespace tidemark::rpc
