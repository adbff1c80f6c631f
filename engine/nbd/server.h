// An NBD server: the way a guest's live reads and writes reach the engine. It listens at one
// address and serves any number of exports by name, to clients such as QEMU, libnbd and the kernel.
//
// Thread rule: every method is safe from any thread. Start, RemoveExport, Stop and the destructor
// block (for a bind, or for requests that are in flight): call them on a worker, never on the
// engine thread, and with no gate closed that a request may be waiting for.
//
// Requests run on the connections' own threads, which count as workers.
#ifndef ENGINE_NBD_SERVER_H_
#define ENGINE_NBD_SERVER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/budget.h"
#include "engine/nbd/address.h"
#include "engine/nbd/export.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

class Server {
 public:
  struct Options {
    Address address;
    // Also at a TCP address that others than this machine reach. Nothing guards it: whoever gets
    // there reads every export, and writes the writable ones.
    bool allow_remote = false;
    // More clients than this wait until one leaves. 0 stands for kConnectionsMax; larger values
    // are cut to it. 1 also withdraws the offer of several connections to one client.
    int connections_max = 0;
    // The id of TLS credentials. There are none in this engine, so any id is refused; empty means
    // a server without TLS.
    std::string tls_credentials;
    // A client that has not chosen an export by then is dropped.
    absl::Duration handshake_timeout = kHandshakeTimeout;
    // What all clients together may use. Null: kServerBytesMax and kServerHelpersMax, of its own.
    Budget* memory = nullptr;
    Budget* helpers = nullptr;
    // See limits.h.
    absl::Duration stalled_client_max = kStalledClientMax;
  };

  enum class RemoveMode {
    kSafe,  // Refuse while clients are connected to the export.
    kHard,  // Disconnect them: what is in flight ends first, what comes later is lost.
  };

  // Binds and listens; clients may connect when it returns. A socket file that nobody listens at
  // any more is replaced. Refused, naming the address: kInvalidField (unusable address),
  // kPathForbidden (others than this machine would reach it, and `allow_remote` is not set),
  // kObjectNotFound (unknown credentials), kIoError (the path is in use, or anything else).
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);

  // Stops.
  virtual ~Server() = default;

  // Where it listens: as given, but for a port that the kernel chose.
  virtual Address address() const = 0;

  // Offers a disk. Refused: kExportExists; kInvalidField (name or description too long);
  // kLimitReached; kNbdServerNotRunning after Stop.
  virtual absl::Status AddExport(Export exported) = 0;

  // Takes it back: when it returns OK, no request is in flight and the storage and bitmaps have
  // been let go of. Refused: kExportNotFound; kExportInUse in mode kSafe.
  virtual absl::Status RemoveExport(absl::string_view name, RemoveMode mode) = 0;

  // How many clients have chosen the export and are still there; 0 for an unknown name.
  virtual int client_count(absl::string_view name) const = 0;

  // Names of the exports, in the order added.
  virtual std::vector<std::string> export_names() const = 0;

  // Stops listening, removes the socket file, disconnects every client as kHard does and drops
  // every export. Later calls do nothing.
  virtual void Stop() = 0;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_SERVER_H_
