#include "engine/nbd/receiver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

static_assert(kReceiveBlockBytes >= kRequestHeaderBytes + kSmallPayloadBytesMax);

absl::Status Receiver::Receive(absl::Duration spin, std::deque<Request>* requests) {
  const size_t count_before = requests->size();
  for (;;) {
    Parse(requests);
    if (requests->size() > count_before) return absl::OkStatus();
    RETURN_IF_ERROR(end_of_requests_);
    if (wanted_bytes_ > 0) return absl::OkStatus();
    if (absl::Status status = ReceiveMore(spin); !status.ok()) {
      end_of_requests_ = status;
      return status;
    }
  }
}

void Receiver::Parse(std::deque<Request>* requests) {
  if (has_large_ && large_bytes_ == large_.memory.size()) {
    requests->push_back(std::move(large_));
    large_ = Request();
    has_large_ = false;
  }
  while (!has_large_ && end_of_requests_.ok() && ParseOne(requests)) {
  }
}

// False if more bytes are needed first.
bool Receiver::ParseOne(std::deque<Request>* requests) {
  needed_bytes_ = kRequestHeaderBytes;
  if (unread_bytes() < needed_bytes_) return false;
  const std::byte* header = block_->data() + begin_;
  if (LoadBigEndian<uint32_t>(header) != kRequestMagic) {
    end_of_requests_ = absl::InvalidArgumentError("a request does not begin with its magic number");
    return false;
  }
  Request request;
  request.flags = LoadBigEndian<uint16_t>(header + 4);
  request.command = static_cast<Command>(LoadBigEndian<uint16_t>(header + 6));
  request.cookie = LoadBigEndian<uint64_t>(header + 8);
  request.range = {LoadBigEndian<uint64_t>(header + 16), LoadBigEndian<uint32_t>(header + 24)};
  if (request.command == Command::kDisconnect) {
    end_of_requests_ = absl::CancelledError("the client left");
    return false;
  }
  expects_large_ = false;
  if (request.command != Command::kWrite) {
    begin_ += kRequestHeaderBytes;
    requests->push_back(std::move(request));
    return true;
  }
  const size_t length = request.range.length_bytes;
  if (length > kPayloadBytesMax) {
    end_of_requests_ = absl::InvalidArgumentError(absl::StrCat("a write of ", length, " bytes"));
    request.payload_too_long = true;
    requests->push_back(std::move(request));
    return false;
  }
  if (length > kSmallPayloadBytesMax) {
    wanted_bytes_ = length > kUnbudgetedBytesMax && !granted_ ? length : 0;
    if (wanted_bytes_ > 0) return false;
    begin_ += kRequestHeaderBytes;
    request.loan = std::move(granted_);
    request.memory = pool_->Take(length);
    request.payload = request.memory.bytes();
    large_bytes_ = std::min(length, unread_bytes());
    std::memcpy(request.memory.data(), block_->data() + begin_, large_bytes_);
    begin_ += large_bytes_;
    large_ = std::move(request);
    has_large_ = true;
    expects_large_ = true;
    if (large_bytes_ < length) return false;
    requests->push_back(std::move(large_));
    has_large_ = false;
    return true;
  }
  needed_bytes_ = kRequestHeaderBytes + length;
  if (unread_bytes() < needed_bytes_) return false;
  request.payload = {header + kRequestHeaderBytes, length};
  request.block = block_;
  block_is_shared_ = true;
  begin_ += needed_bytes_;
  needed_bytes_ = kRequestHeaderBytes;
  requests->push_back(std::move(request));
  return true;
}

absl::Status Receiver::ReceiveMore(absl::Duration spin) {
  MakeRoom();
  iovec parts[2];
  size_t part_count = 0;
  const size_t large_left = has_large_ ? large_.memory.size() - large_bytes_ : 0;
  if (has_large_) parts[part_count++] = {large_.memory.data() + large_bytes_, large_left};
  const size_t room = block_->size() - end_;
  const size_t wanted = expects_large_ && needed_bytes_ > unread_bytes()
                            ? std::min(room, needed_bytes_ - unread_bytes())
                            : room;
  parts[part_count++] = {block_->data() + end_, wanted};
  ASSIGN_OR_RETURN(size_t count,
                   socket_.Receive(absl::MakeSpan(parts, part_count), spin, /*owed=*/has_large_));
  if (count == 0) return absl::UnavailableError("the client was lost");
  const size_t to_large = std::min(count, large_left);
  large_bytes_ += to_large;
  end_ += count - to_large;
  return absl::OkStatus();
}

// Sees to it that the request at begin_ can be received whole, and more along with it.
void Receiver::MakeRoom() {
  if (has_large_) needed_bytes_ = kRequestHeaderBytes;
  if (block_ != nullptr && begin_ == end_ && !block_is_shared_) begin_ = end_ = 0;
  if (block_ != nullptr && begin_ + needed_bytes_ <= block_->size() && end_ < block_->size()) {
    return;
  }
  std::shared_ptr<Memory> old = std::move(block_);
  const size_t kept = unread_bytes();
  block_ = std::make_shared<Memory>(pool_->Take(kReceiveBlockBytes));
  if (kept > 0) std::memcpy(block_->data(), old->data() + begin_, kept);
  begin_ = 0;
  end_ = kept;
  block_is_shared_ = false;
}

}  // namespace tidemark::nbd
