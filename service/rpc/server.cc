#include "service/rpc/server.h"

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "engine/base/status_macros.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_posix.h"
#include "service/rpc/limits.h"
#include "service/rpc/services.h"
#include "service/rpc/tls.h"

namespace tidemark::rpc {
namespace {

// Null without TLS.
absl::StatusOr<std::shared_ptr<Tls>> TlsOf(const ServerOptions& options) {
  if (options.tls_cert.empty() && options.tls_key.empty() && options.tls_client_ca.empty()) {
    return std::shared_ptr<Tls>();
  }
  return Tls::Create({options.tls_cert, options.tls_key, options.tls_client_ca});
}

void SetLimits(const ServerOptions& options, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("tidemarkd");
  quota.Resize(options.transport_bytes_max);
  quota.SetMaxThreads(kTransportThreadsMax);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(kResponseBytesMax);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kConcurrentRpcsPerConnectionMax);
  const auto milliseconds = [](absl::Duration duration) {
    return static_cast<int>(absl::ToInt64Milliseconds(duration));
  };
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(kKeepaliveTime));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(kKeepaliveTimeout));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                             milliseconds(options.connection_idle_max));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                             milliseconds(options.connection_age_max));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
                             milliseconds(options.connection_age_grace));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             milliseconds(kClientPingIntervalMin));
}

}  // namespace

absl::StatusOr<Guard> ReadGuard(const ServerOptions& options) {
  Guard guard;
  ASSIGN_OR_RETURN(guard.tls, TlsOf(options));
  if (options.token_file.empty()) return guard;
  if (guard.tls == nullptr) {
    return Error(Reason::kInvalidCombination,
                 "Tokens need TLS, or others would read them: --token_file needs --tls_cert and "
                 "--tls_key");
  }
  ASSIGN_OR_RETURN(guard.tokens, Tokens::Create(options.token_file));
  return guard;
}

absl::Status Server::CheckAddresses(const ServerOptions& options) const {
  if (options.insecure) return absl::OkStatus();
  const bool has_tls = tls() != nullptr;
  const bool asks_clients = tokens() != nullptr || (has_tls && tls()->asks_clients());
  for (const ListenAddress& address : options.listen) {
    RETURN_IF_ERROR(CheckGuarded(address, has_tls, asks_clients));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Front& front,
                                                      const ServerOptions& options, Guard guard) {
  static const bool plugins = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  (void)plugins;
  auto server = std::unique_ptr<Server>(new Server(front, std::move(guard)));
  RETURN_IF_ERROR(server->CheckAddresses(options));
  grpc::ServerBuilder builder;
  SetLimits(options, builder);
  builder.SetContextAllocator(PeerContexts(server->peers_));
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(server->built_in_.Interceptors());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  std::vector<std::unique_ptr<UnixSocket>> sockets;
  std::vector<std::unique_ptr<TcpSocket>> tcp_sockets;
  for (const ListenAddress& address : options.listen) {
    if (address.is_unix()) {
      ASSIGN_OR_RETURN(std::unique_ptr<UnixSocket> socket, UnixSocket::Bind(address.socket_path));
      sockets.push_back(std::move(socket));
      server->addresses_.push_back(address.text);
      continue;
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> numeric, ResolveTcp(address));
    for (const std::string& one : numeric) {
      ASSIGN_OR_RETURN(std::unique_ptr<TcpSocket> socket, TcpSocket::Bind(one));
      server->addresses_.push_back(socket->address());
      tcp_sockets.push_back(std::move(socket));
    }
  }
  if (!tcp_sockets.empty()) {
    // gRPC would take whoever comes, as many as come.
    server->entrance_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        server->credentials_);
  }
  server->services_ = MakeServices(front);
  for (const auto& service : server->services_) builder.RegisterService(service.get());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("Cannot listen: gRPC refused",
                     server->tls() == nullptr ? "" : "; do the certificate and key fit?"));
  }
  server->TellHealth();
  RETURN_IF_ERROR(server->Open(std::move(sockets), options));
  RETURN_IF_ERROR(server->Open(std::move(tcp_sockets), options));
  return server;
}

absl::Status Server::Open(std::vector<std::unique_ptr<UnixSocket>> sockets,
                          const ServerOptions& options) {
  if (sockets.empty()) return absl::OkStatus();
  for (const auto& socket : sockets) RETURN_IF_ERROR(socket->Publish(options.sockets));
  UnixAcceptor::Hooks hooks;
  hooks.admit = [server = server_.get()](int number) {
    grpc::AddInsecureChannelFromFd(server, number);
  };
  hooks.warn = options.warn;
  ASSIGN_OR_RETURN(unix_acceptor_,
                   UnixAcceptor::Start(std::move(sockets), peers_.unix_peers, std::move(hooks)));
  return absl::OkStatus();
}

absl::Status Server::Open(std::vector<std::unique_ptr<TcpSocket>> sockets,
                          const ServerOptions& options) {
  if (sockets.empty()) return absl::OkStatus();
  TcpAcceptor::Hooks hooks;
  hooks.admit = [entrance = entrance_.get()](int listener, int descriptor) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.listener_fd = listener;
    connection.fd = descriptor;
    entrance->HandleNewConnection(&connection);
  };
  hooks.warn = options.warn;
  ASSIGN_OR_RETURN(tcp_acceptor_,
                   TcpAcceptor::Start(std::move(sockets), options.tcp_connections_per_peer_max,
                                      std::move(hooks)));
  return absl::OkStatus();
}

Server::Server(const Front& front, Guard guard)
    : log_(front.log),
      guard_(std::move(guard)),
      credentials_(tls() != nullptr ? tls()->Credentials(tokens())
                                    : grpc::InsecureServerCredentials()),
      built_in_(front.streams, peers_) {
  peers_.tokens = tokens();
}

Server::~Server() { Stop(); }

// What the log posted last may still come when the server has gone.
struct Server::Health {
  Mutex mutex;
  grpc::HealthCheckServiceInterface* service ABSL_GUARDED_BY(mutex) = nullptr;
};

void Server::TellHealth() {
  health_ = std::make_shared<Health>();
  {
    MutexLock lock(&health_->mutex);
    health_->service = server_->GetHealthCheckService();
  }
  // What is told of a change may come after what is told of the next: the log itself is asked.
  const auto tell = [health = health_, &log = log_](const absl::Status&) {
    MutexLock lock(&health->mutex);
    if (health->service == nullptr) return;
    health->service->SetServingStatus(kStateHealth, log.saving().ok());
  };
  log_.OnSavingChange(tell);
  tell(absl::OkStatus());
}

bool Server::Stop() {
  if (server_ == nullptr) return true;
  log_.OnSavingChange(nullptr);
  if (health_ != nullptr) {
    MutexLock lock(&health_->mutex);
    health_->service = nullptr;
  }
  unix_acceptor_ = nullptr;
  tcp_acceptor_ = nullptr;
  // Health checks say so before connections close.
  server_->GetHealthCheckService()->Shutdown();
  const auto ended = std::make_shared<Notification>();
  // gRPC has no wait with an end.
  std::thread waiter([server = server_.get(), ended] {
    server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kShutdownGrace));
    server->Wait();
    ended->Notify();
  });
  if (ended->WaitFor(kShutdownGrace + kCancelGrace)) {
    waiter.join();
    server_ = nullptr;
    return true;
  }
  waiter.detach();
  // What the thread works with, and what calls may still touch, stays.
  static auto* const given_up = new std::vector<std::unique_ptr<grpc::Server>>;
  given_up->push_back(std::move(server_));
  for (auto& service : services_) service.release();
  return false;
}

}  // namespace tidemark::rpc
