#include "tests/support/storage_daemon.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "nlohmann/json.hpp"

namespace tidemark::test {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kTimeout = absl::Seconds(30);

// Connects to a unix socket that may not be there yet; -1 if it does not appear.
int Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(address.sun_path));
  memcpy(address.sun_path, path.c_str(), path.size());
  const absl::Time deadline = absl::Now() + kTimeout;
  while (absl::Now() < deadline) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
    close(fd);
    absl::SleepFor(absl::Milliseconds(5));
  }
  return -1;
}

Json ParseOrNull(absl::string_view text) {
  return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

}  // namespace

StorageDaemon::StorageDaemon(const TempFolder* folder) : folder_(folder) {
  const std::string path = folder->File("qmp.sock");
  process_ = std::make_unique<Process>(
      std::vector<std::string>{"qemu-storage-daemon", "--chardev",
                               absl::StrCat("socket,path=", path, ",server=on,wait=off,id=qmp"),
                               "--monitor", "chardev=qmp"},
      folder->File("qsd.log"));
  socket_ = Connect(path);
  if (socket_ < 0) return;
  timeval timeout = {30, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  ReadReply();
  started_ = Try("qmp_capabilities", "{}").empty();
}

StorageDaemon::~StorageDaemon() {
  if (socket_ >= 0) close(socket_);
}

std::string StorageDaemon::ReadReply() {
  while (true) {
    const size_t end = unread_.find('\n');
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      if (!ParseOrNull(line).contains("event")) return line;
      continue;
    }
    char buffer[4096];
    const ssize_t length = read(socket_, buffer, sizeof(buffer));
    if (length <= 0) return "{\"error\": {\"desc\": \"the QMP socket gave nothing\"}}";
    unread_.append(buffer, static_cast<size_t>(length));
  }
}

std::string StorageDaemon::Try(absl::string_view command, absl::string_view arguments) {
  const std::string line =
      absl::StrCat("{\"execute\": \"", command, "\", \"arguments\": ", arguments, "}\n");
  CHECK(write(socket_, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  const Json reply = ParseOrNull(ReadReply());
  return reply.contains("error") ? reply["error"].value("desc", "no text") : "";
}

std::string StorageDaemon::Run(absl::string_view command, absl::string_view arguments) {
  const std::string line =
      absl::StrCat("{\"execute\": \"", command, "\", \"arguments\": ", arguments, "}\n");
  CHECK(write(socket_, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  const Json reply = ParseOrNull(ReadReply());
  EXPECT_TRUE(reply.contains("return")) << line << reply.dump();
  return reply.contains("return") ? reply["return"].dump() : "null";
}

std::string StorageDaemon::Open(const std::string& node, const std::string& path, bool read_only) {
  const Json arguments = {{"driver", "qcow2"},
                          {"node-name", node},
                          {"read-only", read_only},
                          {"file", {{"driver", "file"}, {"filename", path}}}};
  return Try("blockdev-add", arguments.dump());
}

void StorageDaemon::Close(const std::string& node) {
  Run("blockdev-del", Json{{"node-name", node}}.dump());
}

void StorageDaemon::Export(const std::string& node) {
  if (!nbd_runs_) {
    Run("nbd-server-start",
        Json{{"addr", {{"type", "unix"}, {"data", {{"path", nbd_socket()}}}}}}.dump());
    nbd_runs_ = true;
  }
  Run("block-export-add",
      Json{{"type", "nbd"}, {"id", node}, {"node-name", node}, {"writable", true}}.dump());
}

std::string StorageDaemon::Sha256(const std::string& node, const std::string& bitmap) {
  const Json reply = ParseOrNull(
      Run("x-debug-block-dirty-bitmap-sha256", Json{{"node", node}, {"name", bitmap}}.dump()));
  return reply.is_object() ? reply.value("sha256", "") : "";
}

int StorageDaemon::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait(kTimeout).value_or(-1);
}

void StorageDaemon::Kill() {
  process_->Signal(SIGKILL);
  process_->Wait(kTimeout);
}

}  // namespace tidemark::test
