// A point in time: while a Quiesce lives, no request of a guest is in flight on the nodes it was
// made for, and new ones wait. Made and destroyed on a graph-command worker; making it waits for
// what is in flight.
//
//   std::vector<std::shared_ptr<Port>> ports;
//   engine.RunAndWait([&] { ports = graph.PortsAbove({drive0, drive1}); });
//   Quiesce quiesce(std::move(ports));
//   engine.RunAndWait([&] { ... change bitmaps, InsertFilter, RemoveFilter ... });
//
// A port is closed once it is empty, so no request may be inside of it that waits at one closed
// before. The ports of guests, who use one each, can be closed in any order (PortsAbove). Where
// ports between nodes are closed as well, those of users come first, and then the others from the
// top down (AllPortsAbove): whoever is inside of a port finds all below it open.
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

  // Closes these too, ports of guests and of others who use nodes at one port each (PortsAbove).
  // Nobody is held for long because of another: when one is not empty after `patience`, those
  // closed here are opened again, that one is waited for alone, and all are closed anew.
  void AddPatiently(const std::vector<std::shared_ptr<Port>>& ports, absl::Duration patience) {
    // Held while the rest is waited for: who uses these waits for a disk in any case.
    Quiesce slow;
    while (const std::shared_ptr<Port> port = TryAdd(ports, patience)) {
      port->Close();
      slow.ports_.push_back(port);
    }
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
  // Null if all are closed. Otherwise none is, and this is the one that is not empty.
  std::shared_ptr<Port> TryAdd(const std::vector<std::shared_ptr<Port>>& ports,
                               absl::Duration patience) {
    Quiesce closed;
    for (const auto& port : ports) {
      if (!port->CloseWithin(patience)) return port;
      closed.ports_.push_back(port);
    }
    for (auto& port : std::exchange(closed.ports_, {})) ports_.push_back(std::move(port));
    return nullptr;
  }

  std::vector<std::shared_ptr<Port>> ports_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_QUIESCE_H_
