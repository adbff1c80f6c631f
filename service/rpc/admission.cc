#include "service/rpc/admission.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::rpc {

Admission::Ticket::~Ticket() {
  if (admission_ != nullptr) admission_->Leave(peer_, bytes_);
}

absl::Status Admission::Ticket::Grow(uint64_t bytes) {
  RETURN_IF_ERROR(admission_->Grow(peer_, bytes));
  bytes_ += bytes;
  return absl::OkStatus();
}

void Admission::Ticket::Shrink(uint64_t bytes) {
  if (bytes == 0) return;
  admission_->Shrink(peer_, bytes);
  bytes_ -= bytes;
}

absl::StatusOr<Admission::Ticket> Admission::Enter(absl::string_view peer, uint64_t bytes) {
  MutexLock lock(&mutex_);
  const auto found = peers_.find(peer);
  const Held own = found == peers_.end() ? Held{} : found->second;
  if (all_.count >= limits_.count || own.count >= limits_.count - all_.count) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("There are ", all_.count, " ", what_, "s already, ", own.count,
                              " of them this client's: no more are to be had of ", limits_.count));
  }
  RETURN_IF_ERROR(CheckBytesLocked(own, bytes));
  Held& held = peers_[peer];
  ++held.count;
  held.bytes += bytes;
  ++all_.count;
  all_.bytes += bytes;
  return Ticket(this, peer, bytes);
}

absl::Status Admission::CheckBytesLocked(const Held& own, uint64_t bytes) const {
  const uint64_t left = limits_.bytes - std::min(limits_.bytes, all_.bytes);
  if (bytes <= left / 2 && own.bytes <= left - 2 * bytes) return absl::OkStatus();
  if (bytes > limits_.bytes / 2) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("A ", what_, " that takes ", bytes,
                              " bytes of memory is too large: one client may have ",
                              limits_.bytes / 2, "; ask for less, or raise --memory_max"));
  }
  return Error(
      Reason::kLimitReached,
      absl::StrCat("A ", what_, " that takes ", bytes, " bytes of memory has no room: all ", what_,
                   "s under way take ", all_.bytes, ", this client's ", own.bytes, ", of ",
                   limits_.bytes, "; try again later"));
}

absl::Status Admission::Grow(const std::string& peer, uint64_t bytes) {
  MutexLock lock(&mutex_);
  Held& held = peers_[peer];
  RETURN_IF_ERROR(CheckBytesLocked(held, bytes));
  held.bytes += bytes;
  all_.bytes += bytes;
  return absl::OkStatus();
}

void Admission::Shrink(const std::string& peer, uint64_t bytes) {
  MutexLock lock(&mutex_);
  peers_[peer].bytes -= bytes;
  all_.bytes -= bytes;
}

void Admission::Leave(const std::string& peer, uint64_t bytes) {
  MutexLock lock(&mutex_);
  all_.bytes -= bytes;
  --all_.count;
  const auto held = peers_.find(peer);
  held->second.bytes -= bytes;
  if (--held->second.count == 0) peers_.erase(held);
}

size_t Admission::count() const {
  MutexLock lock(&mutex_);
  return all_.count;
}

uint64_t Admission::bytes() const {
  MutexLock lock(&mutex_);
  return all_.bytes;
}

}  // namespace tidemark::rpc
