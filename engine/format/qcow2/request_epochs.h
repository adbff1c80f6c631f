// Tells when every request that could still be using a freed cluster has ended, without a lock on
// the way of requests. A request enters the current epoch before it looks anything up and leaves
// when it is done; what was unlinked in an epoch may be reused once that epoch and all before it
// are empty. Any thread.
#ifndef ENGINE_FORMAT_QCOW2_REQUEST_EPOCHS_H_
#define ENGINE_FORMAT_QCOW2_REQUEST_EPOCHS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

namespace tidemark::qcow2 {

class RequestEpochs {
 public:
  // Leaves the epoch when destroyed.
  class Guard {
   public:
    Guard() = default;
    explicit Guard(std::atomic<uint64_t>* slot) : slot_(slot) {}
    Guard(Guard&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      std::swap(slot_, other.slot_);
      return *this;
    }
    ~Guard() {
      if (slot_ != nullptr) slot_->fetch_sub(1);
    }

   private:
    std::atomic<uint64_t>* slot_ = nullptr;
  };

  Guard Enter() {
    while (true) {
      const uint64_t epoch = current_.load();
      std::atomic<uint64_t>& slot = slots_[epoch % kSlots];
      slot.fetch_add(1);
      if (current_.load() == epoch) return Guard(&slot);
      slot.fetch_sub(1);  // The epoch ended meanwhile, and may already have been found empty.
    }
  }

  // Begins a new epoch if it can, and returns a tag for `Drained`: it covers every request that has
  // entered so far. One thread at a time.
  uint64_t Advance() {
    const uint64_t epoch = current_.load();
    if (slots_[(epoch + 1) % kSlots].load() == 0) current_.store(epoch + 1);
    return epoch;
  }

  // True once all requests covered by `tag` have left. One thread at a time, that of Advance.
  bool Drained(uint64_t tag) const {
    const uint64_t current = current_.load();
    const uint64_t oldest = current + 1 > kSlots ? current + 1 - kSlots : 0;
    for (uint64_t epoch = oldest; epoch <= tag; ++epoch) {
      if (slots_[epoch % kSlots].load() != 0) return false;
    }
    return true;
  }

 private:
  static constexpr uint64_t kSlots = 64;

  std::atomic<uint64_t> current_ = 0;
  std::array<std::atomic<uint64_t>, kSlots> slots_ = {};
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_REQUEST_EPOCHS_H_
