// The data plane of an edge: a storage that hands every verb on to a node, through a gate. What it
// leads to can be exchanged (a filter put in, taken out) while its user keeps the same port.
//
// Thread rule: verbs from workers, any number at once; they wait while the gate is closed, holding
// nothing. A placement counts as a request in flight until it is destroyed. size_bytes, limits and
// draining never wait. Close (waits), Open and Retarget belong to graph commands (quiesce.h).
//
// Whoever keeps placements while it makes others (an NBD connection with a queue) asks draining()
// before each, and finishes what it has first if somebody waits. If it does not, the one who waits
// may wait as long as requests keep coming.
#ifndef ENGINE_GRAPH_PORT_H_
#define ENGINE_GRAPH_PORT_H_

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/graph/gate.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

class Port final : public storage::Storage, public std::enable_shared_from_this<Port> {
 public:
  // Open, leading to `target`.
  static std::shared_ptr<Port> Create(std::shared_ptr<storage::Storage> target);

  // Waits until nothing is in flight; from then on requests wait until Open. Counted.
  void Close() { gate_.Close(); }
  // The same, but gives up when nothing has happened for `patience`: false, and then it is as if it
  // had not been closed.
  bool CloseWithin(absl::Duration patience) { return gate_.CloseWithin(patience); }
  void Open() { gate_.Open(); }
  bool closed() { return gate_.closed(); }

  // Leads elsewhere from now on. Requests in flight, if there are any, end where they began: it is
  // kept alive for them.
  void Retarget(std::shared_ptr<storage::Storage> target);

  uint64_t size_bytes() const override;
  storage::Limits limits() const override;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override;
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<storage::Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override;
  bool draining() const override { return gate_.closing(); }

 private:
  class Visit;

  explicit Port(std::shared_ptr<storage::Storage> target);

  std::shared_ptr<storage::Storage> owner() const;
  absl::StatusOr<std::unique_ptr<storage::Placement>> Place(Range range, bool is_write);

  // Own synchronisation. A request loads `target_` after it has entered the gate, so what it finds
  // is in `owner_` or, if it was exchanged since, in `retired_`.
  Gate gate_;
  std::atomic<storage::Storage*> target_;

  mutable Mutex mutex_;
  std::shared_ptr<storage::Storage> owner_ ABSL_GUARDED_BY(mutex_);
  // Former targets that requests in flight may still use; dropped when the gate is seen empty.
  std::vector<std::shared_ptr<storage::Storage>> retired_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_PORT_H_
