// Every limit of the graph in one place. Constants; any thread.
#ifndef ENGINE_GRAPH_LIMITS_H_
#define ENGINE_GRAPH_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace tidemark::graph {

inline constexpr int kNodeNameLengthMax = 31;
// A client can name this many nodes; implicit ones (inline children, filters) count too.
inline constexpr int kNodesMax = 10000;
// Longest path from a user down to a file: deeper chains are refused, since walks recurse.
inline constexpr int kGraphDepthMax = 200;

inline constexpr int kBitmapNameLengthMax = 1023;
inline constexpr int kBitmapsPerNodeMax = 65535;
// Where a bitmap's granularity comes from if nobody gives one: the cluster size, within these.
inline constexpr uint64_t kBitmapDefaultGranularityMinBytes = 4096;
inline constexpr uint64_t kBitmapDefaultGranularityMaxBytes = 65536;

// What one read of a node that shows a disk under copy keeps from changing at a time, and what one
// look at its extents does.
inline constexpr size_t kSharedReadBytesMax = 1024 * 1024;
inline constexpr uint64_t kSharedMapBytesMax = 64 * 1024 * 1024;

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_LIMITS_H_
