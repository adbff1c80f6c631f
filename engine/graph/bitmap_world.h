// For tests of this package: a node's bitmaps over a disk in memory, and their model, sets of dirty
// granules.
#ifndef ENGINE_GRAPH_BITMAP_WORLD_H_
#define ENGINE_GRAPH_BITMAP_WORLD_H_

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/graph/bitmap_store.h"
#include "engine/graph/fake_driver.h"
#include "engine/graph/node_options.h"

namespace tidemark::graph {

inline constexpr uint64_t kGranule = 65536;
inline constexpr uint64_t kDiskBytes = 16 * kGranule;

inline Reason ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  EXPECT_TRUE(details.has_value()) << status;
  return details.has_value() ? details->reason : Reason::kQemuRefused;
}

// The model: dirty granules by number.
using Granules = std::set<uint64_t>;

inline Granules GranulesOf(const bitmap::DirtyBitmap& bits) {
  Granules granules;
  for (uint64_t i = 0; i < kDiskBytes / kGranule; ++i) {
    if (bits.IsDirty(i * kGranule)) granules.insert(i);
  }
  return granules;
}

inline Granules Union(Granules a, const Granules& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// A node's bitmaps and its data plane, over memory.
class BitmapWorld {
 public:
  explicit BitmapWorld(bool read_only = false, std::vector<StoredBitmap> loaded = {})
      : store("disk0", read_only, &driver, tracked_) {
    driver.stores_bitmaps = true;
    disk = WithOptions(driver.storage(), "disk0", {.read_only = read_only}, tracked_);
    store.Load(std::move(loaded));
  }

  // A bitmap of default granularity, with these granules dirty.
  Bitmap* Add(const std::string& name, const Granules& dirty = {}, bool disabled = false) {
    EXPECT_TRUE(
        store.Add({.name = name, .granularity_bytes = kGranule, .disabled = disabled}).ok());
    Bitmap* bitmap = *store.Find(name);
    for (uint64_t granule : dirty) bitmap->bits()->Set({granule * kGranule, 1});
    return bitmap;
  }
  void Write(uint64_t granule) { ASSERT_TRUE(disk->Write(granule * kGranule, Filled(1, 1)).ok()); }
  Granules Dirty(absl::string_view name) { return GranulesOf(*(*store.Find(name))->bits()); }
  BitmapInfo Info(absl::string_view name) {
    for (const BitmapInfo& info : store.List()) {
      if (info.name == name) return info;
    }
    ADD_FAILURE() << "no bitmap " << name;
    return {};
  }
  size_t count() const { return store.List().size(); }

  FakeDriver driver{kDiskBytes};

 private:
  const std::shared_ptr<TrackedBitmaps> tracked_ = std::make_shared<TrackedBitmaps>();

 public:
  BitmapStore store;
  std::shared_ptr<storage::Storage> disk;
};

inline StoredBitmap FromImage(const std::string& name, bool enabled = true,
                              bool inconsistent = false) {
  return {name, enabled, inconsistent, std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, kGranule)};
}

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_BITMAP_WORLD_H_
