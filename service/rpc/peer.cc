#include "service/rpc/peer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "grpc/grpc_security_constants.h"
#include "service/rpc/token_guard.h"

namespace tidemark::rpc {
namespace {

// A call that knows where to find who made it.
class PeerContext final : public grpc::CallbackServerContext {
 public:
  explicit PeerContext(const PeerSources& sources) : sources_(sources) {}
  const PeerSources& sources() const { return sources_; }

 private:
  const PeerSources& sources_;
};

class Allocator final : public grpc::ContextAllocator {
 public:
  explicit Allocator(const PeerSources& sources) : sources_(sources) {}

  grpc::CallbackServerContext* NewCallbackServerContext() override {
    return new PeerContext(sources_);
  }
  // gRPC gives back here what it has made itself, too: the contexts of calls of unknown methods.
  void Release(grpc::CallbackServerContext* context) override {
    delete dynamic_cast<PeerContext*>(context);
  }

 private:
  const PeerSources& sources_;
};

std::string FirstOf(const std::vector<grpc::string_ref>& values) {
  return values.empty() ? "" : std::string(values[0].data(), values[0].size());
}

// "ipv4:10.0.0.1:555" or "ipv6:%5Bfe80::1%25eth0%5D:555", as gRPC writes them; empty for others.
std::string AddressOf(absl::string_view peer) {
  if (!absl::ConsumePrefix(&peer, "ipv4:") && !absl::ConsumePrefix(&peer, "ipv6:")) return "";
  const std::string text = absl::StrReplaceAll(
      peer, {{"%5B", "["}, {"%5D", "]"}, {"%5b", "["}, {"%5d", "]"}, {"%25", "%"}});
  absl::string_view host = absl::string_view(text).substr(0, text.rfind(':'));
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  return std::string(host);
}

void FillFromTls(const grpc::ServerContextBase& context, const Tokens* tokens, Peer* peer) {
  peer->kind = Peer::Kind::kAddress;
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  if (auth == nullptr) return;
  if (!auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME).empty()) {
    peer->kind = Peer::Kind::kCertificate;
    peer->name = FirstOf(auth->FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME));
    if (peer->name.empty()) {
      peer->name = FirstOf(auth->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME));
    }
    return;
  }
  if (tokens == nullptr) return;
  peer->kind = Peer::Kind::kToken;
  const auto values = context.client_metadata().equal_range(kAuthorizationKey);
  for (auto value = values.first; value != values.second && peer->name.empty(); ++value) {
    const auto token = BearerToken({value->second.data(), value->second.size()});
    if (token.has_value()) peer->name = tokens->NameOf(*token).value_or("");
  }
}

// `sources` may be null.
Peer Find(const grpc::ServerContextBase& context, const PeerSources* sources) {
  Peer peer;
  const std::string text = context.peer();
  absl::string_view number = text;
  if (absl::ConsumePrefix(&number, "fd:")) {
    int descriptor;
    if (sources == nullptr || !absl::SimpleAtoi(number, &descriptor)) return peer;
    const absl::optional<UnixPeer> found = sources->unix_peers.Find(descriptor);
    if (!found.has_value()) return peer;
    peer.kind = Peer::Kind::kUnix;
    peer.uid = found->uid;
    peer.gid = found->gid;
    return peer;
  }
  peer.address = AddressOf(text);
  if (!peer.address.empty()) {
    FillFromTls(context, sources == nullptr ? nullptr : sources->tokens.get(), &peer);
  }
  return peer;
}

}  // namespace

std::unique_ptr<grpc::ContextAllocator> PeerContexts(const PeerSources& sources) {
  return std::make_unique<Allocator>(sources);
}

Peer PeerOf(const grpc::CallbackServerContext& context) {
  const auto* const known = dynamic_cast<const PeerContext*>(&context);
  return Find(context, known == nullptr ? nullptr : &known->sources());
}

Peer PeerOf(const grpc::ServerContextBase& context, const PeerSources& sources) {
  return Find(context, &sources);
}

std::string KeyOf(const Peer& peer) {
  switch (peer.kind) {
    case Peer::Kind::kUnix:
      return absl::StrCat("user:", peer.uid);
    case Peer::Kind::kCertificate:
      return absl::StrCat("certificate:", peer.name);
    case Peer::Kind::kToken:
      return absl::StrCat("token:", peer.name);
    case Peer::Kind::kAddress:
      return absl::StrCat("address:", peer.address);
    case Peer::Kind::kUnknown:
      break;
  }
  return "unknown";
}

std::string PeerKey(const grpc::CallbackServerContext& context) { return KeyOf(PeerOf(context)); }

}  // namespace tidemark::rpc
