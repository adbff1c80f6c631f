// The filter of a mirror: what guests change passes through it, so that the mirror can bring it to
// the target, too, before the guest has its answer. Reads pass, placed ones too; placed writes are
// not handed on, so that every change comes through here. What is said to change nothing passes.
//
// Thread rule: as every storage. The mirror outlives the filter's last request.
#ifndef ENGINE_COPY_MIRROR_FILTER_H_
#define ENGINE_COPY_MIRROR_FILTER_H_

#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/base/range.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

// A guest's change of a disk.
struct GuestChange {
  enum class Kind { kWrite, kWriteZeroes, kDiscard };

  Kind kind = Kind::kWrite;
  Range range;
  storage::ConstBytes data;             // Of a write.
  storage::WriteOptions write_options;  // Of a write.
  storage::ZeroOptions zero_options;    // Of zeroes.
};

absl::Status Apply(const GuestChange& change, storage::Storage& disk);

class GuestMirror {
 public:
  virtual ~GuestMirror() = default;

  // Makes the change by `on_source`, and returns what that did: whatever becomes of the target is
  // the mirror's own business.
  virtual absl::Status Change(const GuestChange& change,
                              absl::FunctionRef<absl::Status()> on_source) = 0;
};

class MirrorFilterStorage final : public storage::ForwardingStorage {
 public:
  // `source` is usually the port of the filter's edge.
  MirrorFilterStorage(std::shared_ptr<storage::Storage> source, std::shared_ptr<GuestMirror> mirror)
      : ForwardingStorage(std::move(source)), mirror_(std::move(mirror)) {}

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override;
  absl::Status Discard(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override {
    return next().PlaceRead(range);
  }

 private:
  absl::Status Pass(const GuestChange& change) {
    return mirror_->Change(change, [&] { return Apply(change, next()); });
  }

  const std::shared_ptr<GuestMirror> mirror_;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_MIRROR_FILTER_H_
