// Runs requests against an export and makes their replies: what each NBD command means. Any number
// of threads; blocks on the storage.
#ifndef ENGINE_NBD_HANDLER_H_
#define ENGINE_NBD_HANDLER_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/nbd/client_presence.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/negotiation.h"
#include "engine/nbd/reply.h"
#include "engine/nbd/request.h"

namespace tidemark::nbd {

class Handler {
 public:
  // `session` outlives the handler.
  Handler(const Session& session, std::shared_ptr<MemoryPool> pool)
      : session_(session), pool_(std::move(pool)) {}

  // The whole answer to `request`, good or bad. What is read for nobody is given up once `is_gone`
  // says that the client has left; a change is carried out to its end.
  Reply Run(const Request& request, absl::FunctionRef<bool()> is_gone) const;

  // Memory that running `request` takes until its reply has been sent.
  static size_t MemoryNeeded(const Request& request);

 private:
  // What is wrong with `request` before anything is done; nothing if kNone.
  Errno Validate(const Request& request) const;
  Errno ValidateFlags(const Request& request) const;
  Errno ValidateRange(const Request& request) const;

  Reply Read(const Request& request, ClientPresence& client) const;
  Reply ReadSparse(const Request& request, Memory memory, ClientPresence& client) const;
  Reply BlockStatus(const Request& request, ClientPresence& client) const;
  // The commands that answer with an outcome alone.
  absl::Status Change(const Request& request, ClientPresence& client) const;
  absl::Status Cache(Range range, ClientPresence& client) const;

  Reply Outcome(const Request& request, const absl::Status& status) const;
  Reply Failure(const Request& request, Errno error, absl::string_view text) const;
  storage::Storage& storage() const { return *session_.exported->storage; }

  const Session& session_;
  const std::shared_ptr<MemoryPool> pool_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_HANDLER_H_
