// The engines that every scenario runs on, and the world that it finds: a service with one of them
// behind it. A scenario never asks which one it is on.
#ifndef TESTS_CONFORMANCE_BACKEND_H_
#define TESTS_CONFORMANCE_BACKEND_H_

#include <functional>
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
// The engine starts and ends with it: within the service, or as a process of its own.
class World {
 public:
  explicit World(std::vector<std::string> flags) : flags_(std::move(flags)) {}
  virtual ~World() = default;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Starts all that is not running; false if it does not come up.
  bool Start();
  // Ends it in an orderly way, expecting status 0. In two steps: the engine is told to end, and all
  // of it has ended.
  void Stop();
  virtual void BeginStop();
  virtual void FinishStop();
  // Ends it as a loss of power would.
  virtual void Crash();
  // For a scenario after which a QEMU is known to crash by itself when it is asked to end: it is
  // killed, and its status not looked at. The native engine ends as ever.
  virtual void KillQemuAtEnd() {}
  // What it has printed.
  virtual std::string Log();

  TempFolder& folder() { return folder_; }
  Daemon& daemon() { return *daemon_; }
  Client& client() { return *client_; }
  EventRecorder& events() { return *events_; }

 protected:
  // What requests call the engine; empty for the native one.
  virtual std::string instance() const { return ""; }
  // Brings up an engine of its own, before the service, and makes it known to the service.
  virtual bool StartEngine() { return true; }
  virtual bool IntroduceEngine() { return true; }

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
  std::function<std::unique_ptr<World>(std::vector<std::string> flags)> make;
  // Why it cannot be had here; empty if it can.
  std::string missing;

  friend std::ostream& operator<<(std::ostream& out, const Backend& backend) {
    return out << backend.name;
  }
};

// All engines, also those that are missing here: a test says which it was not run on.
const std::vector<Backend>& Backends();

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_BACKEND_H_
