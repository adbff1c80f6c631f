#include "engine/graph/node_options.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/graph/detect_zeroes.h"

namespace tidemark::graph {
namespace {

using storage::ForwardingStorage;
using storage::Placement;

class ReadOnlyStorage final : public ForwardingStorage {
 public:
  ReadOnlyStorage(std::shared_ptr<storage::Storage> next, std::string node_name)
      : ForwardingStorage(std::move(next)), node_name_(std::move(node_name)) {}

  storage::Limits limits() const override {
    storage::Limits limits = ForwardingStorage::limits();
    limits.read_only = true;
    return limits;
  }
  absl::Status Write(uint64_t, storage::ConstBytes, storage::WriteOptions) override {
    return Refused("write");
  }
  absl::Status WriteZeroes(Range, storage::ZeroOptions) override { return Refused("write zeroes"); }
  absl::Status Discard(Range) override { return Refused("discard"); }
  absl::Status Resize(uint64_t) override { return Refused("resize"); }
  // Nothing can have been written.
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    return next().PlaceRead(range);
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range) override { return Refused("write"); }

 private:
  absl::Status Refused(absl::string_view verb) const {
    return Error(Reason::kNodeReadOnly,
                 absl::StrCat("cannot ", verb, ": node '", node_name_, "' is read-only"),
                 {{"node", node_name_}});
  }

  const std::string node_name_;
};

// discard=ignore: whatever the layers below could give back, they keep.
class KeepingSpaceStorage final : public ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  storage::Limits limits() const override {
    storage::Limits limits = ForwardingStorage::limits();
    limits.can_discard = false;
    return limits;
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    options.may_unmap = false;
    return next().WriteZeroes(range, options);
  }
  absl::Status Discard(Range) override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    return next().PlaceRead(range);
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    return next().PlaceWrite(range);
  }
};

// cache.no-flush.
class NoFlushStorage final : public ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::Status Flush() override { return absl::OkStatus(); }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    return next().PlaceRead(range);
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    return next().PlaceWrite(range);
  }
};

}  // namespace

std::shared_ptr<storage::Storage> WithOptions(std::shared_ptr<storage::Storage> storage,
                                              const std::string& node_name,
                                              const NodeOptions& options,
                                              std::shared_ptr<TrackedBitmaps> bitmaps) {
  if (options.read_only || options.force_share) {
    return std::make_shared<ReadOnlyStorage>(std::move(storage), node_name);
  }
  const bool unmap = options.discard == DiscardMode::kUnmap;
  if (options.cache_no_flush) storage = std::make_shared<NoFlushStorage>(std::move(storage));
  if (options.detect_zeroes != DetectZeroes::kOff) {
    storage = std::make_shared<DetectZeroesStorage>(
        std::move(storage), unmap && options.detect_zeroes == DetectZeroes::kUnmap);
  }
  storage = std::make_shared<TrackingStorage>(std::move(storage), std::move(bitmaps));
  // Outside of the tracking: a discard that does nothing marks nothing.
  if (!unmap) storage = std::make_shared<KeepingSpaceStorage>(std::move(storage));
  return storage;
}

}  // namespace tidemark::graph
