#include "tests/simulation/machine.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/native/threads.h"
#include "tests/simulation/chance.h"

namespace tidemark::simulation {

Machine::Machine(Fibers* fibers, uint64_t seed)
    : fibers_(*fibers),
      disks_(std::make_unique<Disks>(seed, fibers)),
      worker_count_(Chance(seed, "workers").Of({1, 2, native::kWorkerCount})) {}

void Machine::Start() {
  events_thread_ = std::make_unique<SerialExecutor>("events");
  log_ = std::make_unique<backend::EventLog>(SystemClock(), *events_thread_);
  native::NativeBackend::Options options;
  options.version = "simulated";
  // Where there are few, it shows if one of them waits for a disk.
  options.worker_count = worker_count_;
  // The machine outlives its engine.
  options.files = std::shared_ptr<storage::FileSystem>(std::shared_ptr<void>(), disks_.get());
  backend_ =
      std::make_unique<native::NativeBackend>(std::move(options), log_.get(), &SystemClock());
}

void Machine::Stop() {
  backend_->Shutdown();
  backend_ = nullptr;
  log_ = nullptr;
  events_thread_ = nullptr;
}

std::vector<backend::EventPtr> Machine::ReadEvents(uint64_t* after) {
  std::vector<backend::EventPtr> all;
  for (;;) {
    absl::StatusOr<std::vector<backend::EventPtr>> events = log_->Read(*after);
    if (!events.ok()) Fail(absl::StrCat("events cannot be read: ", events.status().ToString()));
    if (events->empty()) return all;
    *after = events->back()->sequence();
    for (backend::EventPtr& event : *events) all.push_back(std::move(event));
  }
}

void Machine::AwaitEvents(uint64_t after) {
  auto more = std::make_shared<Notification>();
  const uint64_t wake = log_->WakeAfter(after, [more] { more->Notify(); });
  if (!more->WaitFor(absl::Seconds(1))) log_->CancelWake(wake);
}

void Machine::Say(const std::string& text) const {
  if (!tells_) return;
  std::fprintf(stderr, "%9llu %s: %s\n", static_cast<unsigned long long>(fibers_.turns()),
               fibers_.running_name().c_str(), text.c_str());
}

void Machine::Tell(const google::protobuf::Message& request, const absl::Status& status) const {
  Say(absl::StrCat(request.GetDescriptor()->name(), " { ", request.ShortDebugString(), " } ",
                   status.ok() ? "OK" : std::string(status.message())));
}

}  // namespace tidemark::simulation
