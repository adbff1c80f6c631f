#include "engine/nbd/connection.h"

namespace tidemark::nbd {

void Connection::Serve() {
  auto session = Negotiate(socket_, exports_, this, handshake_options_);
  // A client that failed to agree is a matter between it and its user: nobody here waits for news.
  if (session.ok()) Transmit(*session);
  socket_.Shutdown();
}

void Connection::Transmit(const Session& session) {
  Transmission transmission(socket_, session, pool_, stall_watch_, budgets_);
  {
    MutexLock lock(&mutex_);
    if (disconnected_) return;
    transmission_ = &transmission;
  }
  transmission.Run();
  MutexLock lock(&mutex_);
  transmission_ = nullptr;
}

void Connection::Disconnect() {
  MutexLock lock(&mutex_);
  if (disconnected_) return;
  disconnected_ = true;
  if (transmission_ != nullptr) {
    transmission_->Disconnect();
  } else {
    socket_.Shutdown();
  }
}

}  // namespace tidemark::nbd
