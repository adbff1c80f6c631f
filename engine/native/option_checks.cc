#include "engine/native/option_checks.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/limits.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/storage/limits.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevOptionsQcow2;

// As many tables as QEMU lets a cache hold.
constexpr uint64_t kCacheTablesMax = std::numeric_limits<int32_t>::max();

absl::Status DoNotGoTogether(const std::string& node, absl::string_view field,
                             absl::string_view what) {
  return Error(Reason::kInvalidCombination, absl::StrCat("node \"", node, "\": ", what),
               {{"node", node}, {"field", field}});
}

// What a client calls it.
absl::string_view NameOf(graph::DiscardMode discard) {
  return discard == graph::DiscardMode::kUnmap ? "UNMAP" : "IGNORE";
}

// The file at the bottom of a chain; the node's name if it has no file.
std::string FileOf(const BlockdevOptions& options) {
  if (options.has_file()) return options.file().filename();
  const DriverRow* const driver = FindDriver(options.driver_case());
  const block::v1::BlockdevRef* const file = driver == nullptr ? nullptr : driver->file_of(options);
  return file == nullptr ? options.node_name() : FileOf(file->definition());
}

}  // namespace

absl::Status CheckOptions(const graph::NodeSpec& spec, const BlockdevOptions& options) {
  if (spec.options.detect_zeroes == graph::DetectZeroes::kUnmap &&
      spec.options.discard != graph::DiscardMode::kUnmap) {
    return DoNotGoTogether(
        spec.name, "detect_zeroes",
        absl::StrCat("detect_zeroes UNMAP needs discard UNMAP, and discard is ",
                     NameOf(spec.options.discard), ": space given back is a discard"));
  }
  if (spec.options.force_share && !spec.options.read_only) {
    return DoNotGoTogether(spec.name, "force_share",
                           "force_share true needs read_only true, and read_only is false");
  }
  if (options.file().aio() == block::v1::BLOCKDEV_AIO_OPTIONS_NATIVE &&
      !spec.options.cache_direct) {
    return DoNotGoTogether(spec.name, "aio",
                           absl::StrCat("aio NATIVE of \"", options.file().filename(),
                                        "\" needs cache.direct true, and cache.direct is false"));
  }
  return absl::OkStatus();
}

absl::Status CheckCaches(const BlockdevOptionsQcow2& options, const std::string& node,
                         uint64_t cluster_bytes) {
  if (options.has_cache_size()) {
    const std::string all = absl::StrCat("cache_size ", options.cache_size());
    const std::string l2 = absl::StrCat("l2_cache_size ", options.l2_cache_size());
    const std::string refcounts =
        absl::StrCat("refcount_cache_size ", options.refcount_cache_size());
    if (options.has_l2_cache_size() && options.has_refcount_cache_size()) {
      return DoNotGoTogether(
          node, "cache_size",
          absl::StrCat(all, ", ", l2, " and ", refcounts, " cannot all be set: two say the third"));
    }
    if (options.has_l2_cache_size() && options.l2_cache_size() > options.cache_size()) {
      return DoNotGoTogether(node, "l2_cache_size", absl::StrCat(l2, " is more than ", all));
    }
    if (options.has_refcount_cache_size() && options.refcount_cache_size() > options.cache_size()) {
      return DoNotGoTogether(node, "refcount_cache_size",
                             absl::StrCat(refcounts, " is more than ", all));
    }
  }
  for (const auto& [field, size_bytes] :
       {std::pair("cache_size", options.cache_size()),
        std::pair("refcount_cache_size", options.refcount_cache_size())}) {
    if (static_cast<uint64_t>(size_bytes) / cluster_bytes > kCacheTablesMax) {
      return Error(
          Reason::kInvalidField,
          absl::StrCat("node \"", node, "\": ", field, " ", size_bytes, " is too large: at most ",
                       kCacheTablesMax, " clusters of ", cluster_bytes),
          {{"node", node}, {"field", field}});
    }
  }
  if (options.has_l2_cache_entry_size() &&
      static_cast<uint64_t>(options.l2_cache_entry_size()) > cluster_bytes) {
    return Error(
        Reason::kInvalidField,
        absl::StrCat("node \"", node, "\": l2_cache_entry_size ", options.l2_cache_entry_size(),
                     " is more than the cluster size ", cluster_bytes),
        {{"node", node}, {"field", "l2_cache_entry_size"}});
  }
  return absl::OkStatus();
}

absl::Status CheckWholeSectors(const std::string& node, uint64_t size_bytes) {
  if (size_bytes == storage::WholeSectors(size_bytes)) return absl::OkStatus();
  return Error(Reason::kInvalidField,
               absl::StrCat("node \"", node, "\": size ", size_bytes, " is no multiple of ",
                            storage::kSectorBytes),
               {{"node", node}, {"field", "size"}});
}

absl::Status TooDeepError(const BlockdevOptions& options, int depth) {
  const std::string limit = absl::StrCat(graph::kGraphDepthMax);
  return Error(Reason::kLimitReached,
               absl::StrCat("cannot open \"", FileOf(options), "\" ", depth,
                            " nodes below the first: a chain of nodes may be ", limit, " deep"),
               {{"file", FileOf(options)}, {"value", absl::StrCat(depth)}});
}

}  // namespace tidemark::native
