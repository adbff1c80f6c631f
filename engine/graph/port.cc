#include "engine/graph/port.h"

namespace tidemark::graph {

using storage::Placement;

// One request: inside the gate while it lives.
class Port::Visit {
 public:
  explicit Visit(Port* port) : port_(port) { port_->gate_.Enter(); }
  ~Visit() {
    if (port_ != nullptr) port_->gate_.Leave();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

  storage::Storage* operator->() const { return port_->target_.load(std::memory_order_acquire); }
  // The gate is left by somebody else.
  void StayInside() { port_ = nullptr; }

 private:
  Port* port_;
};

namespace {

// A placement of the target that counts as a request in flight of the port.
class HeldPlacement final : public Placement {
 public:
  HeldPlacement(std::unique_ptr<Placement> placement, std::shared_ptr<Port> port, Gate* gate)
      : placement_(std::move(placement)), port_(std::move(port)), gate_(gate) {
    pieces_ = placement_->pieces();
    gate_->BeginHold();
  }
  ~HeldPlacement() override {
    placement_.reset();
    gate_->EndHold();
  }
  absl::Status Finish() override { return placement_->Finish(); }

 private:
  std::unique_ptr<Placement> placement_;
  const std::shared_ptr<Port> port_;  // Keeps `gate_` alive.
  Gate* const gate_;
};

}  // namespace

std::shared_ptr<Port> Port::Create(std::shared_ptr<storage::Storage> target) {
  return std::shared_ptr<Port>(new Port(std::move(target)));
}

Port::Port(std::shared_ptr<storage::Storage> target)
    : target_(target.get()), owner_(std::move(target)) {}

void Port::Retarget(std::shared_ptr<storage::Storage> target) {
  std::vector<std::shared_ptr<storage::Storage>> dropped;
  MutexLock lock(&mutex_);
  retired_.push_back(std::exchange(owner_, std::move(target)));
  target_.store(owner_.get(), std::memory_order_release);
  // If the gate is empty now, whoever enters from now on loads the new target. While it is closed,
  // those who come and find it so make it look used for a moment, but load nothing.
  if (gate_.closed() || gate_.IsEmptyNow()) dropped.swap(retired_);
}

std::shared_ptr<storage::Storage> Port::owner() const {
  MutexLock lock(&mutex_);
  return owner_;
}

uint64_t Port::size_bytes() const { return owner()->size_bytes(); }
storage::Limits Port::limits() const { return owner()->limits(); }

absl::Status Port::Read(uint64_t offset_bytes, storage::Bytes buffer) {
  return Visit(this)->Read(offset_bytes, buffer);
}

absl::Status Port::Write(uint64_t offset_bytes, storage::ConstBytes data,
                         storage::WriteOptions options) {
  return Visit(this)->Write(offset_bytes, data, options);
}

absl::Status Port::WriteZeroes(Range range, storage::ZeroOptions options) {
  return Visit(this)->WriteZeroes(range, options);
}

absl::Status Port::Discard(Range range) { return Visit(this)->Discard(range); }
absl::Status Port::Flush() { return Visit(this)->Flush(); }
absl::Status Port::Resize(uint64_t size_bytes) { return Visit(this)->Resize(size_bytes); }

absl::StatusOr<storage::Extent> Port::Map(Range range) { return Visit(this)->Map(range); }

absl::StatusOr<std::unique_ptr<Placement>> Port::PlaceRead(Range range) {
  return Place(range, /*is_write=*/false);
}

absl::StatusOr<std::unique_ptr<Placement>> Port::PlaceWrite(Range range) {
  return Place(range, /*is_write=*/true);
}

absl::StatusOr<std::unique_ptr<Placement>> Port::Place(Range range, bool is_write) {
  Visit visit(this);
  auto placement = is_write ? visit->PlaceWrite(range) : visit->PlaceRead(range);
  if (!placement.ok() || *placement == nullptr) return placement;
  auto held = std::make_unique<HeldPlacement>(*std::move(placement), shared_from_this(), &gate_);
  visit.StayInside();
  return held;
}

}  // namespace tidemark::graph
