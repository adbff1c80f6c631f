#include "tests/support/qmp_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "nlohmann/json.hpp"

namespace tidemark::test {
namespace {

using Json = nlohmann::json;

constexpr int kTimeoutSeconds = 30;

// Connects to a unix socket that may not be there yet; -1 if it does not appear.
int Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(address.sun_path));
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const absl::Time deadline = absl::Now() + absl::Seconds(kTimeoutSeconds);
  while (absl::Now() < deadline) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
    close(fd);
    absl::SleepFor(absl::Milliseconds(5));
  }
  return -1;
}

std::string LineOf(absl::string_view command, absl::string_view arguments) {
  return absl::StrCat("{\"execute\": \"", command, "\", \"arguments\": ", arguments, "}\n");
}

// QEMU writes the one member of a reply first.
bool IsReply(absl::string_view line) {
  return absl::StartsWith(line, "{\"return\"") || absl::StartsWith(line, "{\"error\"");
}

}  // namespace

QmpClient::QmpClient(const std::string& path) : socket_(Connect(path)) {
  if (socket_ < 0) return;
  const timeval timeout = {kTimeoutSeconds, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  ReadLine();
  connected_ = Try("qmp_capabilities").empty();
}

QmpClient::~QmpClient() {
  if (socket_ >= 0) close(socket_);
}

std::string QmpClient::Try(absl::string_view command, absl::string_view arguments) {
  const Json reply = Json::parse(RoundTrip(LineOf(command, arguments)));
  return reply.contains("error") ? reply["error"].value("desc", "no text") : "";
}

std::string QmpClient::Run(absl::string_view command, absl::string_view arguments) {
  const std::string line = RoundTrip(LineOf(command, arguments));
  const Json reply = Json::parse(line);
  EXPECT_TRUE(reply.contains("return")) << command << " " << arguments << ": " << line;
  return reply.contains("return") ? reply["return"].dump() : "null";
}

void QmpClient::Send(absl::string_view line) {
  CHECK(write(socket_, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}

std::string QmpClient::ReadLine() {
  size_t end;
  while ((end = unread_.find('\n')) == std::string::npos) {
    char buffer[4096];
    const ssize_t length = read(socket_, buffer, sizeof(buffer));
    if (length <= 0) return R"({"error": {"desc": "the QMP socket gave nothing"}})";
    unread_.append(buffer, static_cast<size_t>(length));
  }
  std::string line = unread_.substr(0, end);
  unread_.erase(0, end + 1);
  return line;
}

std::string QmpClient::RoundTrip(absl::string_view line) {
  Send(line);
  std::string reply = ReadLine();
  while (!IsReply(reply)) reply = ReadLine();
  return reply;
}

}  // namespace tidemark::test
