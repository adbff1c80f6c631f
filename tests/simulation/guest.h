// A guest of a simulated disk: what an export does for its clients, without sockets. Reads, writes,
// zeroes, discards and flushes by its seed, and judges what it reads.
#ifndef TESTS_SIMULATION_GUEST_H_
#define TESTS_SIMULATION_GUEST_H_

#include <string>

#include "tests/simulation/world.h"

namespace tidemark::simulation {

// Runs until its requests are through, or the world is calm. `name` is its part of the world.
void RunGuest(World* world, VirtualDisk* disk, const std::string& name);

// Uses a node as an export does: attached while it lives.
class NodeUser {
 public:
  // Fails the world if the engine refuses, unless the power is gone: then port() is null.
  NodeUser(World* world, const std::string& node, const std::string& user, bool writes);
  ~NodeUser();
  NodeUser(const NodeUser&) = delete;
  NodeUser& operator=(const NodeUser&) = delete;

  storage::Storage* port() const { return edge_ == nullptr ? nullptr : edge_->port().get(); }

 private:
  World& world_;
  graph::Edge* edge_ = nullptr;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_GUEST_H_
