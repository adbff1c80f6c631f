#include "engine/native/drivers/driver_table.h"

#include <algorithm>

#include "engine/native/drivers/openings.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevRef;

const BlockdevRef* NoFile(const BlockdevOptions&) { return nullptr; }

constexpr DriverRow kDrivers[] = {
    {.name = "file",
     .driver = block::v1::BLOCKDEV_DRIVER_FILE,
     .options_case = BlockdevOptions::kFile,
     .open = &OpenFile,
     .file_of = &NoFile,
     .over_path = &FileOverPath,
     .can_create = true},
    {.name = "raw",
     .driver = block::v1::BLOCKDEV_DRIVER_RAW,
     .options_case = BlockdevOptions::kRaw,
     .open = &OpenRaw,
     .file_of = &FileOfRaw,
     .over_path = &RawOverPath,
     .can_create = true},
    {.name = "null-co",
     .driver = block::v1::BLOCKDEV_DRIVER_NULL_CO,
     .options_case = BlockdevOptions::kNullCo,
     .open = &OpenNullCo,
     .file_of = &NoFile,
     .over_path = nullptr},
    {.name = "qcow2",
     .driver = block::v1::BLOCKDEV_DRIVER_QCOW2,
     .options_case = BlockdevOptions::kQcow2,
     .open = &OpenQcow2,
     .file_of = &FileOfQcow2,
     .over_path = &Qcow2OverPath,
     .can_create = true,
     .has_backing = true,
     .has_persistent_bitmaps = true,
     .can_compress = true},
};

template <typename Matches>
const DriverRow* FindIf(Matches matches) {
  const absl::Span<const DriverRow> all = AllDrivers();
  const auto found = std::find_if(all.begin(), all.end(), matches);
  return found == all.end() ? nullptr : &*found;
}

}  // namespace

absl::Span<const DriverRow> AllDrivers() { return kDrivers; }

const DriverRow* FindDriver(BlockdevOptions::DriverCase options_case) {
  return FindIf([options_case](const DriverRow& row) { return row.options_case == options_case; });
}

const DriverRow* FindDriver(absl::string_view name) {
  return FindIf([name](const DriverRow& row) { return row.name == name; });
}

}  // namespace tidemark::native
