#include "adapters/qmp/send_buffer.h"

#include <sys/socket.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace tidemark::qmp {
namespace {

// How many bytes the socket took; its errno in `error`, 0 if it is only full.
size_t SendSome(int socket, absl::string_view bytes, int* error) {
  size_t sent = 0;
  *error = 0;
  while (sent < bytes.size()) {
    const ssize_t count =
        send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += count;
    } else if (errno != EINTR) {
      if (errno != EAGAIN && errno != EWOULDBLOCK) *error = errno;
      break;
    }
  }
  return sent;
}

}  // namespace

int SendBuffer::Send(int socket, absl::string_view bytes) {
  given_total_ += bytes.size();
  if (kept_bytes() > 0) {
    absl::StrAppend(&kept_, bytes);
    return 0;
  }
  int error;
  const size_t sent = SendSome(socket, bytes, &error);
  sent_total_ += sent;
  if (error == 0) absl::StrAppend(&kept_, bytes.substr(sent));
  return error;
}

int SendBuffer::Flush(int socket) {
  int error;
  const size_t sent = SendSome(socket, absl::string_view(kept_).substr(kept_begin_), &error);
  sent_total_ += sent;
  kept_begin_ += sent;
  if (error != 0 || kept_bytes() == 0) {
    std::string().swap(kept_);
    kept_begin_ = 0;
  } else if (kept_begin_ > kept_.size() / 2) {
    kept_.erase(0, kept_begin_);
    kept_begin_ = 0;
  }
  return error;
}

}  // namespace tidemark::qmp
