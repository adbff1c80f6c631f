#include "adapters/qmp/testing/fake_monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

#include "adapters/qmp/value_reader.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace tidemark::qmp {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);

int Listen(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  CHECK(path.size() < sizeof(address.sun_path));
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  unlink(path.c_str());
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0);
  CHECK(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  // As QEMU: one waits while another is served.
  CHECK(listen(listener, 1) == 0);
  return listener;
}

}  // namespace

std::string FakeMonitor::DefaultGreeting() {
  return R"({"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, )"
         R"("package": "fake"}, "capabilities": ["oob"]}})"
         "\r\n";
}

FakeMonitor::FakeMonitor(std::string path, std::string greeting)
    : path_(std::move(path)), greeting_(std::move(greeting)), listener_(Listen(path_)) {
  CHECK(pipe2(stop_, O_CLOEXEC) == 0);
  Answer("qmp_capabilities", Json::object());
  Answer("query-version", Json::object());
  thread_ = std::thread([this] { Run(); });
}

FakeMonitor::~FakeMonitor() {
  close(stop_[1]);
  Hangup();
  thread_.join();
  close(stop_[0]);
  close(listener_);
  unlink(path_.c_str());
}

void FakeMonitor::Answer(const std::string& command, Handler handler) {
  MutexLock lock(&mutex_);
  handlers_[command] = std::move(handler);
  held_.erase(command);
}

void FakeMonitor::Answer(const std::string& command, Json value) {
  Answer(command, Handler([value = std::move(value)](const Json&) {
           return Json{{"return", value}};
         }));
}

void FakeMonitor::Fail(const std::string& command, const std::string& error_class,
                       const std::string& desc) {
  Answer(command, Handler([error_class, desc](const Json&) {
           return Json{{"error", {{"class", error_class}, {"desc", desc}}}};
         }));
}

void FakeMonitor::Hold(const std::string& command) {
  MutexLock lock(&mutex_);
  held_.insert(command);
}

void FakeMonitor::StopReading() {
  MutexLock lock(&mutex_);
  reads_ = false;
}

void FakeMonitor::Resume() {
  MutexLock lock(&mutex_);
  reads_ = true;
  changed_.SignalAll();
}

bool FakeMonitor::WaitUntil(const std::function<bool()>& condition) {
  const absl::Duration end = SystemClock().Elapsed() + kPatience;
  while (!condition()) {
    const absl::Duration left = end - SystemClock().Elapsed();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mutex_, left);
  }
  return true;
}

Json FakeMonitor::WaitForCommand(const std::string& command, int count) {
  MutexLock lock(&mutex_);
  Json found;
  WaitUntil([&] {
    int seen = 0;
    for (const Json& one : commands_) {
      if (one["execute"] == command && ++seen == count) {
        found = one;
        return true;
      }
    }
    return false;
  });
  return found;
}

int FakeMonitor::CountOf(const std::string& command) {
  MutexLock lock(&mutex_);
  int count = 0;
  for (const Json& one : commands_) count += one["execute"] == command;
  return count;
}

bool FakeMonitor::WaitForClients(int count) {
  MutexLock lock(&mutex_);
  return WaitUntil([&] { return client_count_ >= count; });
}

bool FakeMonitor::WaitForEnds(int count) {
  MutexLock lock(&mutex_);
  return WaitUntil([&] { return end_count_ >= count; });
}

bool FakeMonitor::Reply(const Json& command, Json value) {
  return SendLine({{"return", std::move(value)}, {"id", command.at("id")}});
}

bool FakeMonitor::SendEvent(const std::string& event, Json data) {
  return SendLine({{"timestamp", {{"seconds", 1}, {"microseconds", 2}}},
                   {"event", event},
                   {"data", std::move(data)}});
}

bool FakeMonitor::SendLine(const Json& line) { return SendBytes(line.dump() + "\r\n"); }

bool FakeMonitor::SendBytes(absl::string_view bytes) {
  MutexLock send_lock(&send_mutex_);
  int client = -1;
  {
    MutexLock lock(&mutex_);
    // Its own descriptor: Serve closes the other one when the client goes.
    if (client_ >= 0) client = dup(client_);
  }
  if (client < 0) return false;
  while (!bytes.empty()) {
    const ssize_t sent = send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) break;
    bytes.remove_prefix(sent);
  }
  close(client);
  return bytes.empty();
}

void FakeMonitor::Hangup() {
  MutexLock lock(&mutex_);
  if (client_ >= 0) shutdown(client_, SHUT_RDWR);
  reads_ = true;  // So that the end is seen.
  changed_.SignalAll();
}

void FakeMonitor::Run() {
  for (;;) {
    pollfd watched[2] = {{listener_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    poll(watched, 2, -1);
    if (watched[1].revents != 0) return;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    {
      MutexLock lock(&mutex_);
      client_ = client;
      ++client_count_;
      changed_.SignalAll();
    }
    if (!greeting_.empty()) SendBytes(greeting_);
    Serve(client);
    MutexLock lock(&mutex_);
    client_ = -1;
    close(client);
    ++end_count_;
    changed_.SignalAll();
  }
}

void FakeMonitor::Serve(int client) {
  ValueReader reader;
  char buffer[65536];
  for (;;) {
    {
      MutexLock lock(&mutex_);
      while (!reads_) changed_.Wait(&mutex_);
    }
    pollfd watched[2] = {{client, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    poll(watched, 2, -1);
    if (watched[1].revents != 0) return;
    {
      MutexLock lock(&mutex_);
      if (!reads_) continue;
    }
    const ssize_t count = recv(client, buffer, sizeof(buffer), 0);
    if (count <= 0) return;
    absl::string_view bytes(buffer, count);
    for (;;) {
      const auto line = reader.Next(&bytes);
      if (!line.ok() || !line->has_value()) break;
      OnLine(**line);
    }
  }
}

void FakeMonitor::OnLine(absl::string_view line) {
  const absl::StatusOr<Json> command = ParseJson(line);
  if (!command.ok() || StringMember(*command, "execute") == nullptr) return;
  const std::string name = *StringMember(*command, "execute");
  Handler handler;
  {
    MutexLock lock(&mutex_);
    commands_.push_back(*command);
    changed_.SignalAll();
    if (held_.count(name) > 0) return;
    if (const auto found = handlers_.find(name); found != handlers_.end()) {
      handler = found->second;
    }
  }
  Json reply;
  if (handler != nullptr) {
    const Json* const arguments = Member(*command, "arguments");
    reply = handler(arguments == nullptr ? Json::object() : *arguments);
  } else {
    const std::string desc = "The command " + name + " has not been found";
    reply = {{"error", {{"class", "CommandNotFound"}, {"desc", desc}}}};
  }
  if (const Json* id = Member(*command, "id")) reply["id"] = *id;
  SendLine(reply);
}

}  // namespace tidemark::qmp
