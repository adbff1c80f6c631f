// The order of commands and of the ends of jobs: which may start, and which must wait for which.
//
// Each is a ticket with the keys of what it touches: nodes by name, files, exports, a job's id. A
// ticket starts when no earlier one that has a key in common with it waits or runs; so on one part
// of the graph all happens in the order of the calls, as in QMP, and a disk that hangs holds up
// only those who have to do with it. A key stands for more than itself: a node's for all that is
// connected with it. That changes as tickets run, so it is asked anew whenever tickets may start.
//
// Engine thread. It runs nothing itself: command_queue.h does.
#ifndef ENGINE_NATIVE_ORDER_BOOK_H_
#define ENGINE_NATIVE_ORDER_BOOK_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"

namespace tidemark::native {

struct OrderKey {
  enum class Kind { kNode, kFile, kExport, kJob, kServer };

  Kind kind = Kind::kNode;
  std::string name;
  // Those who share a key need no order among themselves.
  bool shared = false;

  friend bool operator==(const OrderKey&, const OrderKey&) = default;
};

class OrderBook {
 public:
  using TicketId = uint64_t;
  using Keys = std::vector<OrderKey>;

  // What keys stand for at the moment.
  class World {
   public:
    virtual ~World() = default;
    // A look at the world begins: what was said before may be wrong now.
    virtual void BeginLook() = 0;
    // Adds the parts of the world that `key` stands for, by any names that are the same for the
    // same part during one look.
    virtual void AddParts(const OrderKey& key, std::vector<std::string>* parts) = 0;
    // Adds the places where the disks of `key` are, each of which can hang as a whole.
    virtual void AddPlaces(const OrderKey& key, absl::flat_hash_set<std::string>* places) = 0;
  };

  struct Limits {
    int running_max = 0;
    int running_per_place_max = 0;
  };

  // `world` must outlive it.
  OrderBook(World* world, Limits limits) : world_(*world), limits_(limits) {}

  // A new ticket, the last in order.
  TicketId Add(Keys keys);
  // The waiting tickets that may start now, in order: from now on they run.
  std::vector<TicketId> TakeReady();
  // It is over, or is not wanted any more.
  void Remove(TicketId id);

  size_t waiting_count() const { return tickets_.size() - running_count_; }
  size_t running_count() const { return running_count_; }
  // In order.
  std::vector<TicketId> Waiting() const;

 private:
  struct Ticket {
    Keys keys;
    bool running = false;
    absl::flat_hash_set<std::string> places;  // Of one that runs.
  };
  // Parts that earlier tickets have: true if one of them has it for itself.
  using Taken = absl::flat_hash_map<std::string, bool>;
  using Claims = std::vector<std::pair<std::string, bool>>;  // Part, and whether it is shared.

  Claims ClaimsOf(const Ticket& ticket);
  static bool IsFree(const Taken& taken, const Claims& claims);
  static void Take(const Claims& claims, Taken* taken);
  // Counts the ticket where its disks are; false if it would be one too many.
  bool TakePlaces(Ticket* ticket);

  World& world_;
  const Limits limits_;
  std::map<TicketId, Ticket> tickets_;  // In order.
  size_t running_count_ = 0;
  absl::flat_hash_map<std::string, int> running_by_place_;
  TicketId next_id_ = 1;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_ORDER_BOOK_H_
