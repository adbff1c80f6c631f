#include "engine/copy/mirror_filter.h"

namespace tidemark::copy {

absl::Status Apply(const GuestChange& change, storage::Storage& disk) {
  switch (change.kind) {
    case GuestChange::Kind::kWrite:
      return disk.Write(change.range.offset_bytes, change.data, change.write_options);
    case GuestChange::Kind::kWriteZeroes:
      return disk.WriteZeroes(change.range, change.zero_options);
    case GuestChange::Kind::kDiscard:
      return disk.Discard(change.range);
  }
  return absl::OkStatus();
}

absl::Status MirrorFilterStorage::Write(uint64_t offset_bytes, storage::ConstBytes data,
                                        storage::WriteOptions options) {
  if (options.unchanged) return next().Write(offset_bytes, data, options);
  return Pass({.kind = GuestChange::Kind::kWrite,
               .range = {offset_bytes, data.size()},
               .data = data,
               .write_options = options});
}

absl::Status MirrorFilterStorage::WriteZeroes(Range range, storage::ZeroOptions options) {
  if (options.unchanged) return next().WriteZeroes(range, options);
  return Pass({.kind = GuestChange::Kind::kWriteZeroes, .range = range, .zero_options = options});
}

absl::Status MirrorFilterStorage::Discard(Range range) {
  return Pass({.kind = GuestChange::Kind::kDiscard, .range = range});
}

}  // namespace tidemark::copy
