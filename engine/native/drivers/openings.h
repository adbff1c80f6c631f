// How nodes of each driver are opened: what the rows of driver_table.cc name, one file for each
// driver. Graph-command worker.
#ifndef ENGINE_NATIVE_DRIVERS_OPENINGS_H_
#define ENGINE_NATIVE_DRIVERS_OPENINGS_H_

#include <string>

#include "absl/status/statusor.h"
#include "engine/graph/graph.h"
#include "engine/native/node_opening.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

// file.cc
absl::StatusOr<graph::Node*> OpenFile(NodeOpening& opening,
                                      const block::v1::BlockdevOptions& options,
                                      graph::NodeSpec spec);
block::v1::BlockdevOptions FileOverPath(const std::string& path);

// raw.cc
absl::StatusOr<graph::Node*> OpenRaw(NodeOpening& opening,
                                     const block::v1::BlockdevOptions& options,
                                     graph::NodeSpec spec);
const block::v1::BlockdevRef* FileOfRaw(const block::v1::BlockdevOptions& options);
block::v1::BlockdevOptions RawOverPath(const std::string& path);

// null_co.cc
absl::StatusOr<graph::Node*> OpenNullCo(NodeOpening& opening,
                                        const block::v1::BlockdevOptions& options,
                                        graph::NodeSpec spec);

// qcow2.cc
absl::StatusOr<graph::Node*> OpenQcow2(NodeOpening& opening,
                                       const block::v1::BlockdevOptions& options,
                                       graph::NodeSpec spec);
const block::v1::BlockdevRef* FileOfQcow2(const block::v1::BlockdevOptions& options);
block::v1::BlockdevOptions Qcow2OverPath(const std::string& path);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DRIVERS_OPENINGS_H_
