// What clients may have under way, all together and each: a number of things (calls, streams) and
// the memory that these hold. A client is let in as long as it has less than is still free: alone
// it may have half, a second one half of what is left, and so on, so that whoever comes last finds
// something however much the others have taken.
//
// Any thread; never waits.
#ifndef SERVICE_RPC_ADMISSION_H_
#define SERVICE_RPC_ADMISSION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"

namespace tidemark::rpc {

class Admission {
 public:
  struct Limits {
    size_t count;
    uint64_t bytes;
  };

  // A place, until it is destroyed. Movable; used by one thread at a time.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : admission_(std::exchange(other.admission_, nullptr)),
          peer_(std::move(other.peer_)),
          bytes_(other.bytes_) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(admission_, other.admission_);
      std::swap(peer_, other.peer_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Ticket();

    // Holds so many bytes more. RESOURCE_EXHAUSTED (kLimitReached) if they are not to be had; then
    // nothing changes. The ticket must not be empty.
    absl::Status Grow(uint64_t bytes);
    // Holds so many less, which it has grown by.
    void Shrink(uint64_t bytes);

   private:
    friend class Admission;
    Ticket(Admission* admission, absl::string_view peer, uint64_t bytes)
        : admission_(admission), peer_(peer), bytes_(bytes) {}

    Admission* admission_ = nullptr;
    std::string peer_;
    uint64_t bytes_ = 0;
  };

  // `what` names one of them in errors: "stream". Outlives its tickets.
  Admission(std::string what, Limits limits) : what_(std::move(what)), limits_(limits) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // RESOURCE_EXHAUSTED (kLimitReached) if the peer has its share.
  absl::StatusOr<Ticket> Enter(absl::string_view peer, uint64_t bytes);

  // How many there may be of things that take `bytes` each.
  size_t room_for(uint64_t bytes) const {
    return std::min<uint64_t>(limits_.count, limits_.bytes / bytes);
  }
  size_t count() const;
  uint64_t bytes() const;

 private:
  struct Held {
    size_t count = 0;
    uint64_t bytes = 0;
  };

  absl::Status CheckBytesLocked(const Held& own, uint64_t bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Grow(const std::string& peer, uint64_t bytes);
  void Shrink(const std::string& peer, uint64_t bytes);
  void Leave(const std::string& peer, uint64_t bytes);

  const std::string what_;
  const Limits limits_;

  mutable Mutex mutex_;
  Held all_ ABSL_GUARDED_BY(mutex_);
  // Only of peers that have something under way.
  absl::flat_hash_map<std::string, Held> peers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_ADMISSION_H_
