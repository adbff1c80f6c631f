// Zeroing and discarding: what can be told by an entry alone, for whole clusters; data for the
// rest.
//
// Whole clusters that are zeroed become part of this image, even where it would read as zeroes
// anyway: the image may be given a backing file later (an incremental backup that is put on top of
// the one before it), and must not show its data then. Discarding promises no such thing.

#include <algorithm>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// Zeroes written as data at a time.
constexpr uint64_t kZeroBufferBytes = uint64_t{1} << 20;

// The entry that each cluster of a mapping is to have; absent to leave them alone.
using NewEntry = absl::FunctionRef<absl::optional<L2Entry>(const Mapping& mapping)>;

// Visits the whole clusters of `range`, a step at a time so that others get their turn. Stretches
// for which `new_entry` gives nothing are appended to `left`, if that is not null.
absl::Status ChangeEntries(Core& core, Range range, NewEntry new_entry, std::vector<Range>* left) {
  uint64_t at = range.offset_bytes;
  while (at < range.end_bytes()) {
    if (left == nullptr) {
      // What need not change need not be claimed; that can be a large empty part of the disk.
      ASSIGN_OR_RETURN(const Mapping mapping,
                       core.tables.Lookup(Range::FromTo(at, range.end_bytes())));
      if (!new_entry(mapping).has_value()) {
        at = mapping.range.end_bytes();
        continue;
      }
    }
    // Entries are cheap: a step may cover a thousand clusters.
    const uint64_t step_end = std::min({range.end_bytes(), core.tables.SetEndBytes(at),
                                        at + (uint64_t{1024} << core.geometry.cluster_bits)});
    const auto claim = core.claims.Acquire(Range::FromTo(at, step_end));
    while (at < step_end) {
      ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup(Range::FromTo(at, step_end)));
      const absl::optional<L2Entry> first = new_entry(mapping);
      if (first.has_value()) {
        std::vector<L2Entry> entries(mapping.range.length_bytes >> core.geometry.cluster_bits);
        L2Entry entry = *first;
        for (L2Entry& out : entries) {
          out = entry;
          entry = core.tables.entries().Next(entry);
        }
        RETURN_IF_ERROR(core.tables.Set(at, entries));
      } else if (left != nullptr) {
        left->push_back(mapping.range);
      }
      at = mapping.range.end_bytes();
    }
  }
  return absl::OkStatus();
}

bool AlreadyZero(const Core& core, const Mapping& mapping) {
  return mapping.kind == Mapping::Kind::kZero ||
         (mapping.kind == Mapping::Kind::kUnallocated && !core.MayShowBacking());
}

absl::Status NoFastWay(Range range) {
  return Error(Reason::kFeatureUnsupported,
               absl::StrCat("zeroing ", range.ToString(), " would have to write data"));
}

// Writes zeroes where the range does not read as zeroes for sure, or with `own` where the image has
// none of its own.
absl::Status ZeroAsData(Core& core, Range range, bool fast_only, bool own) {
  const std::vector<std::byte> zeroes(std::min(range.length_bytes, kZeroBufferBytes));
  while (!range.empty()) {
    const Range step = {range.offset_bytes, std::min(range.length_bytes, kZeroBufferBytes)};
    ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup(step));
    const bool zero = own ? mapping.kind == Mapping::Kind::kZero : AlreadyZero(core, mapping);
    if (!zero) {
      if (fast_only) return NoFastWay(range);
      RETURN_IF_ERROR(WriteDisk(core, mapping.range.offset_bytes,
                                storage::ConstBytes(zeroes).first(mapping.range.length_bytes)));
    }
    range = Range::FromTo(mapping.range.end_bytes(), range.end_bytes());
  }
  return absl::OkStatus();
}

absl::Status ZeroClusters(Core& core, Range range, storage::ZeroOptions options) {
  using Kind = Mapping::Kind;
  const auto new_entry = [&](const Mapping& mapping) -> absl::optional<L2Entry> {
    const bool has_place = mapping.host_offset_bytes != 0;
    if (core.version < 3) {
      return absl::nullopt;  // There are no zero entries.
    }
    if (mapping.kind == Kind::kZero && (!has_place || !options.may_unmap)) return absl::nullopt;
    if (mapping.kind == Kind::kData && !options.may_unmap && mapping.owned) {
      return core.tables.entries().KeptZero(mapping.host_offset_bytes);
    }
    return core.tables.entries().Zero();
  };
  std::vector<Range> left;
  RETURN_IF_ERROR(ChangeEntries(core, range, new_entry, core.version < 3 ? &left : nullptr));
  for (const Range& rest : left) {
    RETURN_IF_ERROR(ZeroAsData(core, rest, options.fast_only, /*own=*/true));
  }
  return absl::OkStatus();
}

// The whole clusters within `range`; the partial last one of the disk counts as whole.
Range WholeClusters(const Core& core, Range range) {
  const uint64_t end = range.end_bytes() == core.size_bytes.load()
                           ? core.geometry.RoundUp(range.end_bytes())
                           : core.geometry.RoundDown(range.end_bytes());
  return Range::FromTo(core.geometry.RoundUp(range.offset_bytes), end);
}

}  // namespace

absl::Status ZeroDisk(Core& core, Range range, storage::ZeroOptions options) {
  const Range whole = WholeClusters(core, range);
  if (whole.empty()) return ZeroAsData(core, range, options.fast_only, /*own=*/false);
  const Range head = Range::FromTo(range.offset_bytes, whole.offset_bytes);
  const Range tail = Range::FromTo(whole.end_bytes(), range.end_bytes());
  // The edges first: with fast_only, a refusal must not come after a change that took long.
  RETURN_IF_ERROR(ZeroAsData(core, head, options.fast_only, /*own=*/false));
  RETURN_IF_ERROR(ZeroAsData(core, tail, options.fast_only, /*own=*/false));
  return ZeroClusters(core, whole, options);
}

absl::Status ZeroUnallocated(Core& core, Range range, storage::ZeroOptions options) {
  if (core.version >= 3) {
    const auto new_entry = [&core](const Mapping& mapping) -> absl::optional<L2Entry> {
      if (mapping.kind != Mapping::Kind::kUnallocated) return absl::nullopt;
      return core.tables.entries().Zero();
    };
    return ChangeEntries(core, WholeClusters(core, range), new_entry, nullptr);
  }
  if (options.fast_only) return NoFastWay(range);
  const std::vector<std::byte> zeroes(std::min(range.length_bytes, kZeroBufferBytes));
  for (uint64_t at = range.offset_bytes; at < range.end_bytes();) {
    const uint64_t length = std::min<uint64_t>(zeroes.size(), range.end_bytes() - at);
    RETURN_IF_ERROR(WriteUnallocated(core, at, storage::ConstBytes(zeroes).first(length)));
    at += length;
  }
  return absl::OkStatus();
}

absl::Status DiscardDisk(Core& core, Range range) {
  // Without zero entries, letting go of a cluster would bring old data of the backing disk back.
  if (core.version < 3 && core.MayShowBacking()) return absl::OkStatus();
  const auto new_entry = [&](const Mapping& mapping) -> absl::optional<L2Entry> {
    if (mapping.kind == Mapping::Kind::kUnallocated && !core.MayShowBacking()) return absl::nullopt;
    if (mapping.kind == Mapping::Kind::kZero && mapping.host_offset_bytes == 0) {
      return absl::nullopt;
    }
    return core.version < 3 ? L2Entry() : core.tables.entries().Zero();
  };
  const Range whole = WholeClusters(core, range);
  return whole.empty() ? absl::OkStatus() : ChangeEntries(core, whole, new_entry, nullptr);
}

absl::Status UnmapClusters(Core& core, Range range) {
  const auto new_entry = [](const Mapping& mapping) -> absl::optional<L2Entry> {
    if (mapping.kind == Mapping::Kind::kUnallocated) return absl::nullopt;
    return L2Entry();
  };
  return ChangeEntries(core, range, new_entry, nullptr);
}

}  // namespace tidemark::qcow2
