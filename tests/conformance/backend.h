// The engines that every scenario runs on, and the world that it finds: a service with one of them
// behind it. A scenario never asks which one it is on.
#ifndef TESTS_CONFORMANCE_BACKEND_H_
#define TESTS_CONFORMANCE_BACKEND_H_

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/event_recorder.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

// A service, its client, and a recorder of its events. Everything that it uses lies in `folder`.
class World {
 public:
  explicit World(std::vector<std::string> flags) : flags_(std::move(flags)) {}
  virtual ~World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Starts what is not running; false if it does not come up.
  bool Start();
  // Ends the service in an orderly way, expecting status 0, or as a crash would.
  void Stop();
  void Crash();

  TempFolder& folder() { return folder_; }
  Daemon& daemon() { return *daemon_; }
  Client& client() { return *client_; }
  EventRecorder& events() { return *events_; }

 protected:
  // What requests call the engine; empty for the native one.
  virtual std::string instance() const { return ""; }
  // Brings up what stands behind the instance, once the service runs.
  virtual bool StartEngine() { return true; }

 private:
  const std::vector<std::string> flags_;
  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<EventRecorder> events_;
};

// An engine to run scenarios on.
struct Backend {
  std::string name;
  // A world with that engine; `flags` are for the service.
  std::unique_ptr<World> (*make)(std::vector<std::string> flags) = nullptr;

  friend std::ostream& operator<<(std::ostream& out, const Backend& backend) {
    return out << backend.name;
  }
};

// All engines.
std::vector<Backend> Backends();

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_BACKEND_H_
