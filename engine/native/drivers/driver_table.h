// Every driver of the engine, one row each: what opens nodes, what `GetCapabilities` tells and what
// is refused by name follow from it. Constant; any thread.
#ifndef ENGINE_NATIVE_DRIVERS_DRIVER_TABLE_H_
#define ENGINE_NATIVE_DRIVERS_DRIVER_TABLE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/graph/graph.h"
#include "engine/native/node_opening.h"
#include "tidemark/block/v1/blockdev_driver.pb.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

struct DriverRow {
  // QEMU's name of it, and the two forms that it has in the API.
  absl::string_view name;
  block::v1::BlockdevDriver driver;
  block::v1::BlockdevOptions::DriverCase options_case;

  // Opens a node of this driver with its children. Graph-command worker.
  absl::StatusOr<graph::Node*> (*open)(NodeOpening& opening,
                                       const block::v1::BlockdevOptions& options,
                                       graph::NodeSpec spec);

  // The child that holds its bytes; null if it has none, or none is said.
  const block::v1::BlockdevRef* (*file_of)(const block::v1::BlockdevOptions& options);

  // The options by which a file is opened of which only its name and this driver are known. Null:
  // that says nothing to this driver.
  block::v1::BlockdevOptions (*over_path)(const std::string& path);

  // What it can do besides being opened for reading and writing.
  bool can_create = false;
  bool has_backing = false;
  bool has_persistent_bitmaps = false;
  bool can_compress = false;
};

absl::Span<const DriverRow> AllDrivers();

// Null if the engine has no such driver.
const DriverRow* FindDriver(block::v1::BlockdevOptions::DriverCase options_case);
const DriverRow* FindDriver(absl::string_view name);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_DRIVERS_DRIVER_TABLE_H_
