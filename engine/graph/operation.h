// What commands do to a node, so that a job can forbid some of it while it works there. Plain
// values; any thread.
#ifndef ENGINE_GRAPH_OPERATION_H_
#define ENGINE_GRAPH_OPERATION_H_

#include <cstdint>
#include <string>

namespace tidemark::graph {

enum class Operation : uint32_t {
  kDelete = 1 << 0,
  kResize = 1 << 1,
  kBackupSource = 1 << 2,
  kBackupTarget = 1 << 3,
  kMirrorSource = 1 << 4,
  kMirrorTarget = 1 << 5,
  kStream = 1 << 6,
  kCommitSource = 1 << 7,
  kCommitTarget = 1 << 8,
  kSnapshot = 1 << 9,
  kReopen = 1 << 10,
  kExport = 1 << 11,
};

class OperationSet {
 public:
  constexpr OperationSet() = default;
  constexpr OperationSet(Operation operation)  // NOLINT: a set of one.
      : bits_(static_cast<uint32_t>(operation)) {}
  static constexpr OperationSet All() { return FromBits(~uint32_t{0}); }

  constexpr bool Contains(Operation operation) const {
    return (bits_ & static_cast<uint32_t>(operation)) != 0;
  }
  friend constexpr OperationSet operator|(OperationSet a, OperationSet b) {
    return FromBits(a.bits_ | b.bits_);
  }
  friend constexpr OperationSet operator-(OperationSet a, OperationSet b) {
    return FromBits(a.bits_ & ~b.bits_);
  }

 private:
  static constexpr OperationSet FromBits(uint32_t bits) {
    OperationSet set;
    set.bits_ = bits;
    return set;
  }
  uint32_t bits_ = 0;
};

constexpr OperationSet operator|(Operation a, Operation b) {
  return OperationSet(a) | OperationSet(b);
}

struct OperationBlock {
  uint64_t id = 0;
  OperationSet operations;
  std::string reason;  // Follows "node 'x' is ": "in use by block job 'j' (backup)".
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_OPERATION_H_
