#include "engine/nbd/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

namespace {

absl::Status ErrnoStatus(absl::string_view what, int error) {
  return absl::UnavailableError(absl::StrCat(what, ": ", strerror(error)));
}

// Waits for `events`, at most `timeout`. Spurious returns are fine.
void Poll(int fd, short events, absl::Duration timeout) {
  pollfd entry = {fd, events, 0};
  const absl::Duration bounded = std::clamp(timeout, absl::ZeroDuration(), absl::Hours(1));
  poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(bounded) + 1));
}

// Drops the first `count` bytes of `parts`.
absl::Span<iovec> Advance(absl::Span<iovec> parts, size_t count) {
  while (count > 0) {
    const size_t step = std::min(count, parts.front().iov_len);
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + step;
    parts.front().iov_len -= step;
    count -= step;
    if (parts.front().iov_len == 0) parts.remove_prefix(1);
  }
  return parts;
}

}  // namespace

Socket::Socket(int fd) : fd_(fd) {
  const int on = 1;
  // Both fail on a unix socket, which needs neither.
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  const int size_bytes = kSocketBufferBytes;
  setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &size_bytes, sizeof(size_bytes));
}

Socket::~Socket() { close(fd_); }

bool Socket::IsStalled(absl::Duration since) const {
  return memory_ != nullptr && memory_->contended() &&
         SystemClock().Elapsed() - since >= stalled_max_;
}

absl::StatusOr<size_t> Socket::Receive(absl::Span<const iovec> parts, absl::Duration spin,
                                       bool owed) {
  const absl::Duration began = owed ? SystemClock().Elapsed() : absl::ZeroDuration();
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = parts.size();
  const bool spins = spin > absl::ZeroDuration();
  const absl::Duration until = spins ? SystemClock().Elapsed() + spin : absl::ZeroDuration();
  bool sleeps = !spins;
  for (;;) {
    const ssize_t count = recvmsg(fd_, &message, sleeps && !owed ? 0 : MSG_DONTWAIT);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (owed && sleeps) {
        if (IsStalled(began))
          return absl::DeadlineExceededError("the client owes data for too long");
        Poll(fd_, POLLIN, kSendCheckInterval);
      }
      sleeps = SystemClock().Elapsed() >= until;
    } else if (errno != EINTR) {
      return ErrnoStatus("receive", errno);
    }
  }
}

absl::Status Socket::ReceiveAll(Bytes buffer, absl::Duration deadline) {
  while (!buffer.empty()) {
    const ssize_t count = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count == 0) return absl::UnavailableError("the client left");
    if (count > 0) {
      buffer.remove_prefix(static_cast<size_t>(count));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return ErrnoStatus("receive", errno);
    const absl::Duration left = deadline - SystemClock().Elapsed();
    if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("the client is too slow");
    Poll(fd_, POLLIN, left);
  }
  return absl::OkStatus();
}

absl::Status Socket::SendAll(absl::Span<iovec> parts, absl::Duration deadline) {
  absl::Duration ends = deadline;
  absl::Duration progressed = SystemClock().Elapsed();
  bool graced = false;
  while (!parts.empty()) {
    msghdr message = {};
    message.msg_iov = parts.data();
    message.msg_iovlen = std::min(parts.size(), kPartsPerSendMax);
    const ssize_t count = sendmsg(fd_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      parts = Advance(parts, static_cast<size_t>(count));
      if (!parts.empty()) progressed = SystemClock().Elapsed();
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return ErrnoStatus("send", errno);
    const absl::Duration now = SystemClock().Elapsed();
    if (ending_.load() && !graced) {
      graced = true;
      ends = std::min(ends, now + kSendGrace);
    }
    if (now >= ends || IsStalled(progressed))
      return absl::DeadlineExceededError("the client takes no answers");
    Poll(fd_, POLLOUT, std::min(ends - now, kSendCheckInterval));
  }
  return absl::OkStatus();
}

absl::Status Socket::SendAll(ConstBytes bytes, absl::Duration deadline) {
  iovec part = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  return SendAll(absl::MakeSpan(&part, bytes.empty() ? 0 : 1), deadline);
}

bool Socket::PeerIsGone() const {
  pollfd watched = {fd_, 0, 0};
  return poll(&watched, 1, 0) > 0 && (watched.revents & (POLLHUP | POLLERR)) != 0;
}

void Socket::Shutdown() {
  ending_.store(true);
  shutdown(fd_, SHUT_RDWR);
}

void Socket::ShutdownReceive() {
  ending_.store(true);
  shutdown(fd_, SHUT_RD);
}

}  // namespace tidemark::nbd
