#include "engine/nbd/server.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/connection.h"
#include "engine/nbd/export_table.h"
#include "engine/nbd/listener.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/negotiation.h"
#include "engine/nbd/stall_watch.h"

namespace tidemark::nbd {

namespace {

class ServerImpl final : public Server {
 public:
  ServerImpl(std::unique_ptr<Listener> listener, const Options& options)
      : handshake_options_{options.handshake_timeout,
                           /*offers_multiple_connections=*/options.connections_max != 1},
        connections_max_(options.connections_max <= 0
                             ? kConnectionsMax
                             : std::min(options.connections_max, kConnectionsMax)),
        address_(listener->address()),
        budgets_{options.memory != nullptr ? options.memory : &own_memory_,
                 options.helpers != nullptr ? options.helpers : &own_helpers_,
                 options.stalled_client_max},
        pool_(MemoryPool::Make()),
        listener_(std::move(listener)) {
    accepting_thread_ = std::thread([this] { AcceptClients(); });
  }
  ~ServerImpl() override { Stop(); }

  Address address() const override { return address_; }

  absl::Status AddExport(Export exported) override { return exports_.Add(std::move(exported)); }
  absl::Status RemoveExport(absl::string_view name, RemoveMode mode) override {
    return exports_.Remove(name, mode == RemoveMode::kHard);
  }
  int client_count(absl::string_view name) const override { return exports_.client_count(name); }
  std::vector<std::string> export_names() const override {
    std::vector<std::string> names;
    for (ExportTable::Listing& listing : exports_.List()) names.push_back(std::move(listing.name));
    return names;
  }
  void Stop() override;

 private:
  // A client with the thread that serves it, from accepting to joining.
  struct Served {
    std::unique_ptr<Connection> connection;
    std::thread thread;
    std::atomic<bool> ended = false;
  };

  void AcceptClients();
  void Admit(int fd);
  void JoinEnded();

  // Constant after construction.
  const HandshakeOptions handshake_options_;
  const int connections_max_;
  const Address address_;
  Budget own_memory_{kServerBytesMax};
  Budget own_helpers_{kServerHelpersMax};
  const Budgets budgets_;

  // Synchronise themselves.
  const std::shared_ptr<MemoryPool> pool_;
  ExportTable exports_;
  StallWatch stall_watch_;
  std::unique_ptr<Listener> listener_;  // Until stopped.
  std::atomic<bool> stopping_ = false;

  // Used by the accepting thread alone; by Stop when that has ended.
  std::vector<std::unique_ptr<Served>> served_;

  Mutex stop_mutex_;  // Held for all of Stop, so that a second one waits for the first.
  std::thread accepting_thread_;
};

void ServerImpl::AcceptClients() {
  while (!stopping_.load()) {
    JoinEnded();
    const bool admits = served_.size() < static_cast<size_t>(connections_max_);
    const auto fd = listener_->Accept(admits);
    if (fd.has_value()) Admit(*fd);
  }
}

void ServerImpl::Admit(int fd) {
  auto served = std::make_unique<Served>();
  served->connection =
      std::make_unique<Connection>(fd, exports_, stall_watch_, pool_, budgets_, handshake_options_);
  Served* const raw = served.get();
  try {
    served->thread = std::thread([this, raw] {
      raw->connection->Serve();
      raw->ended.store(true);
      listener_->Wake();
    });
  } catch (const std::system_error&) {
    return;  // No thread to be had: the client is dropped, as if there were too many.
  }
  served_.push_back(std::move(served));
}

void ServerImpl::JoinEnded() {
  for (auto& served : served_) {
    if (!served->ended.load()) continue;
    served->thread.join();
    served = nullptr;
  }
  served_.erase(std::remove(served_.begin(), served_.end(), nullptr), served_.end());
}

void ServerImpl::Stop() {
  MutexLock lock(&stop_mutex_);
  if (listener_ == nullptr) return;
  stopping_.store(true);
  listener_->RemoveFile();
  listener_->Wake();
  accepting_thread_.join();
  for (auto& served : served_) served->connection->Disconnect();
  for (auto& served : served_) served->thread.join();
  served_.clear();
  exports_.Close();
  listener_ = nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options) {
  if (!options.tls_credentials.empty()) {
    return Error(Reason::kObjectNotFound,
                 absl::StrCat("cannot start the NBD server: there are no TLS credentials with id '",
                              options.tls_credentials, "'"),
                 {{"tls_creds", options.tls_credentials}});
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Listener> listener,
                   Listener::Bind(options.address, options.allow_remote));
  try {
    return std::make_unique<ServerImpl>(std::move(listener), options);
  } catch (const std::system_error& error) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("cannot start the NBD server: it gets no thread: ", error.what()));
  }
}

}  // namespace tidemark::nbd
