// A point in time: while a Quiesce lives, no request of a guest is in flight on the nodes it was
// made for, and new ones wait. Made and destroyed on the graph-command worker; making it waits for
// what is in flight.
//
//   std::vector<std::shared_ptr<Port>> ports;
//   engine.RunAndWait([&] { ports = graph.PortsAbove({drive0, drive1}); });
//   Quiesce quiesce(std::move(ports));
//   engine.RunAndWait([&] { ... change bitmaps, InsertFilter, RemoveFilter ... });
//
// No request waits at a gate while it is inside of another, because only the ports of users are
// ever closed, not those between nodes; so ports can be closed in any order.
#ifndef ENGINE_GRAPH_QUIESCE_H_
#define ENGINE_GRAPH_QUIESCE_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/graph/port.h"

namespace tidemark::graph {

class Quiesce {
 public:
  Quiesce() = default;
  // Returns when all are closed.
  explicit Quiesce(std::vector<std::shared_ptr<Port>> ports) : ports_(std::move(ports)) {
    for (const auto& port : ports_) port->Close();
  }
  ~Quiesce() { Open(); }
  // Closes these too; false, and then not one of them, if nothing happens for `patience` at one
  // that is not empty yet.
  bool AddWithin(std::vector<std::shared_ptr<Port>> ports, absl::Duration patience) {
    Quiesce added;
    for (auto& port : ports) {
      if (!port->CloseWithin(patience)) return false;
      added.ports_.push_back(std::move(port));
    }
    for (auto& port : std::exchange(added.ports_, {})) ports_.push_back(std::move(port));
    return true;
  }
  Quiesce(Quiesce&& other) noexcept : ports_(std::exchange(other.ports_, {})) {}
  Quiesce& operator=(Quiesce&& other) noexcept {
    if (this != &other) {
      Open();
      ports_ = std::exchange(other.ports_, {});
    }
    return *this;
  }

  // Opens all; the destructor does it otherwise.
  void Open() {
    for (const auto& port : std::exchange(ports_, {})) port->Open();
  }

 private:
  std::vector<std::shared_ptr<Port>> ports_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_QUIESCE_H_
