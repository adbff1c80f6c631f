// One client: handshake, transmission, end. Serve runs once, on a thread of the connection's own;
// Disconnect may come from any thread at any time while the connection exists.
#ifndef ENGINE_NBD_CONNECTION_H_
#define ENGINE_NBD_CONNECTION_H_

#include <memory>

#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/nbd/budgets.h"
#include "engine/nbd/export_table.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/negotiation.h"
#include "engine/nbd/socket.h"
#include "engine/nbd/stall_watch.h"
#include "engine/nbd/transmission.h"

namespace tidemark::nbd {

class Connection final : public ExportTable::Client {
 public:
  // Takes over `fd`. The references outlive the connection.
  Connection(int fd, ExportTable& exports, StallWatch& stall_watch,
             std::shared_ptr<MemoryPool> pool, const Budgets& budgets,
             const HandshakeOptions& handshake_options)
      : socket_(fd),
        exports_(exports),
        stall_watch_(stall_watch),
        pool_(std::move(pool)),
        budgets_(budgets),
        handshake_options_(handshake_options) {}

  // Returns when the client is gone and nothing of it is in flight.
  void Serve();

  void Disconnect() override;

 private:
  void Transmit(const Session& session);

  // Constant after construction.
  Socket socket_;
  ExportTable& exports_;
  StallWatch& stall_watch_;
  const std::shared_ptr<MemoryPool> pool_;
  const Budgets budgets_;
  const HandshakeOptions handshake_options_;

  Mutex mutex_;
  bool disconnected_ ABSL_GUARDED_BY(mutex_) = false;
  Transmission* transmission_ ABSL_GUARDED_BY(mutex_) = nullptr;  // While it runs.
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_CONNECTION_H_
