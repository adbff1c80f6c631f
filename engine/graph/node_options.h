// The options every node has whatever its driver, and the wrappers that carry them out. Plain
// values and storages; any thread.
#ifndef ENGINE_GRAPH_NODE_OPTIONS_H_
#define ENGINE_GRAPH_NODE_OPTIONS_H_

#include <memory>
#include <string>
#include <utility>

#include "engine/graph/tracking.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

enum class DiscardMode {
  kIgnore,  // Discards do nothing, and mark no bitmap.
  kUnmap,
};

enum class DetectZeroes {
  kOff,
  kOn,     // Data that is all zeroes is written as zeroes, keeping its space.
  kUnmap,  // ... giving its space back, if discard is kUnmap too.
};

// As given to blockdev-add. An inline child's discard is kUnmap unless it says otherwise: the
// format above it decides what to discard.
struct NodeOptions {
  bool read_only = false;
  bool auto_read_only = false;
  DiscardMode discard = DiscardMode::kIgnore;
  DetectZeroes detect_zeroes = DetectZeroes::kOff;
  bool cache_direct = false;
  bool cache_no_flush = false;
  // Only reads, and shares everything: an image that others may write meanwhile.
  bool force_share = false;
};

// A node's data plane over its driver's storage: refuses writes if read-only, else detects zeroes,
// tracks, and drops discards and flushes that the options say to drop.
std::shared_ptr<storage::Storage> WithOptions(std::shared_ptr<storage::Storage> storage,
                                              const std::string& node_name,
                                              const NodeOptions& options,
                                              std::shared_ptr<TrackedBitmaps> bitmaps);

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_NODE_OPTIONS_H_
