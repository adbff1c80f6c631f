// A disk of a simulated machine as its guests and its operator see it, with the models of what it
// holds and of what its bitmaps must have marked.
#ifndef TESTS_SIMULATION_VIRTUAL_DISK_H_
#define TESTS_SIMULATION_VIRTUAL_DISK_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/graph/edge.h"
#include "tests/simulation/disk_model.h"

namespace tidemark::simulation {

// What a bitmap must have marked; it may have marked more.
class BitmapModel {
 public:
  explicit BitmapModel(bool persistent, uint64_t granularity_bytes)
      : persistent(persistent), granularity_bytes(granularity_bytes) {}

  // Records from a moment on; no longer.
  void Enable(Moment now) {
    if (recording_.empty() || recording_.back().second != kNever) {
      recording_.push_back({now, kNever});
    }
  }
  void Disable(Moment now) {
    if (!recording_.empty() && recording_.back().second == kNever) recording_.back().second = now;
  }
  bool enabled() const { return !recording_.empty() && recording_.back().second == kNever; }
  // All that ended before `now` need not be marked any more.
  void Clear(Moment now) {
    more_.clear();
    std::vector<std::pair<Moment, Moment>> left;
    for (const auto& [from, to] : recording_) {
      if (to > now) left.push_back({std::max(from, now), to});
    }
    recording_ = std::move(left);
  }
  // What another must have marked, too.
  void Merge(const std::vector<bool>& marked) {
    if (more_.size() < marked.size()) more_.resize(marked.size());
    for (size_t i = 0; i < marked.size(); ++i) more_[i] = more_[i] || marked[i];
  }
  // By sector.
  std::vector<bool> Marked(const DiskModel& disk) const {
    std::vector<bool> marked = more_;
    marked.resize(disk.size_bytes() / kSectorBytes);
    for (const auto& [from, to] : recording_) disk.AddChanged(from, to, &marked);
    return marked;
  }

  const bool persistent;
  const uint64_t granularity_bytes;

 private:
  std::vector<std::pair<Moment, Moment>> recording_;
  std::vector<bool> more_;
};

struct VirtualDisk {
  // A node that its guests use.
  std::string node;
  std::string path;
  std::string driver;   // "qcow2", "raw".
  std::string backing;  // Path of a base; empty: none.
  // The node of its file; empty: it has no name.
  std::string file_node;
  uint64_t cluster_bytes = 0;
  DiskModel model{0};
  std::map<std::string, BitmapModel> bitmaps;
  // Of the file node: from which of the file's changes on the bitmap must mark them.
  std::map<std::string, size_t> file_bitmaps;
  // Of each request of a guest that is under way: how many of those changes had begun before it.
  std::multiset<size_t> under_way;
  // Nobody writes to it.
  bool quiet = false;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_VIRTUAL_DISK_H_
