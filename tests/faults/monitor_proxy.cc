#include "tests/faults/monitor_proxy.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(address.sun_path));
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

sockaddr_in LoopbackAddress() {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int ListenOnTcp() {
  const sockaddr_in address = LoopbackAddress();
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  CHECK(listen(listener, 8) == 0);
  return listener;
}

int Listen(const std::string& path) {
  if (path.empty()) return ListenOnTcp();
  const sockaddr_un address = AddressOf(path);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  CHECK(listen(listener, 8) == 0);
  return listener;
}

// -1 if nobody listens there.
int Connect(const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

void SendAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

}  // namespace

MonitorProxy::MonitorProxy(std::string path, std::string monitor_path)
    : path_(std::move(path)),
      monitor_path_(std::move(monitor_path)),
      listener_(Listen(path_)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

MonitorProxy::~MonitorProxy() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  close(listener_);
  close(wake_fd_);
  if (!path_.empty()) unlink(path_.c_str());
}

int MonitorProxy::port() const {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

void MonitorProxy::Wake() {
  const uint64_t one = 1;
  CHECK(write(wake_fd_, &one, sizeof(one)) == sizeof(one));
}

void MonitorProxy::Cut() {
  {
    MutexLock lock(&mutex_);
    is_cut_ = true;
    if (client_ >= 0) shutdown(client_, SHUT_RDWR);
    if (monitor_ >= 0) shutdown(monitor_, SHUT_RDWR);
  }
  Wake();
}

void MonitorProxy::Mend() {
  {
    MutexLock lock(&mutex_);
    is_cut_ = false;
    is_mute_ = false;
  }
  Wake();
}

void MonitorProxy::Mute() {
  MutexLock lock(&mutex_);
  is_mute_ = true;
  said_.clear();
}

bool MonitorProxy::WaitForMuted(absl::string_view text) {
  const absl::Duration end = SystemClock().Elapsed() + kPatience;
  MutexLock lock(&mutex_);
  while (said_.find(std::string(text)) == std::string::npos) {
    const absl::Duration left = end - SystemClock().Elapsed();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mutex_, left);
  }
  return true;
}

void MonitorProxy::Inject(absl::string_view bytes) {
  MutexLock lock(&mutex_);
  if (client_ >= 0) SendAll(client_, bytes);
}

bool MonitorProxy::Forward(int from, int to, bool is_from_client) {
  char buffer[65536];
  const ssize_t count = recv(from, buffer, sizeof(buffer), 0);
  if (count <= 0) return false;
  const absl::string_view bytes(buffer, static_cast<size_t>(count));
  {
    MutexLock lock(&mutex_);
    if (is_mute_ && !is_from_client) {
      said_.append(buffer, static_cast<size_t>(count));
      changed_.SignalAll();
      return true;
    }
  }
  SendAll(to, bytes);
  return true;
}

void MonitorProxy::Run() {
  for (;;) {
    int client;
    int monitor;
    bool is_cut;
    {
      MutexLock lock(&mutex_);
      if (stopping_) break;
      client = client_;
      monitor = monitor_;
      is_cut = is_cut_;
    }
    // Without a client those two are left out, as negative descriptors are.
    pollfd watched[] = {{wake_fd_, POLLIN, 0},
                        {client < 0 && !is_cut ? listener_ : -1, POLLIN, 0},
                        {client, POLLIN, 0},
                        {monitor, POLLIN, 0}};
    poll(watched, std::size(watched), -1);
    if (watched[0].revents != 0) {
      uint64_t wakes;
      CHECK(read(wake_fd_, &wakes, sizeof(wakes)) == sizeof(wakes));
    }
    bool lives = client >= 0;
    if (watched[2].revents != 0) lives = Forward(client, monitor, /*is_from_client=*/true);
    if (lives && watched[3].revents != 0) {
      lives = Forward(monitor, client, /*is_from_client=*/false);
    }
    MutexLock lock(&mutex_);
    if (client >= 0 && !lives) {
      close(client_);
      close(monitor_);
      client_ = monitor_ = -1;
    }
    if (watched[1].revents != 0 && !is_cut_) {
      const int accepted = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int joined = Connect(monitor_path_);
      if (joined < 0) {
        close(accepted);
      } else {
        client_ = accepted;
        monitor_ = joined;
      }
    }
  }
  MutexLock lock(&mutex_);
  if (client_ >= 0) close(client_);
  if (monitor_ >= 0) close(monitor_);
}

}  // namespace tidemark::test
