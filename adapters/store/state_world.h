// For tests: a state folder of one's own, and what to put into it.
#ifndef ADAPTERS_STORE_STATE_WORLD_H_
#define ADAPTERS_STORE_STATE_WORLD_H_

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/store/state_folder.h"
#include "gtest/gtest.h"

namespace tidemark::store {

namespace v1 = ::tidemark::block::v1;
using backend::EventPtr;

inline constexpr char kPadding[] =
    "a job with a name that takes some room in the database of the folder";

inline EventPtr MakeEvent(uint64_t sequence, const std::string& job = kPadding) {
  auto event = std::make_shared<backend::Event>();
  event->set_sequence(sequence);
  event->mutable_job_status_change()->set_id(job);
  return event;
}

inline v1::CreateInstanceRequest MakeInstance(const std::string& id) {
  v1::CreateInstanceRequest instance;
  instance.set_id(id);
  instance.mutable_address()->mutable_unix_socket()->set_path("/run/" + id);
  return instance;
}

inline v1::Job MakeJob(const std::string& instance, const std::string& id, int64_t total = 1) {
  v1::Job job;
  job.set_instance(instance);
  job.set_id(id);
  job.set_total_bytes(total);
  return job;
}

inline void Nobody(const std::string&) {}

class StateWorld : public testing::Test {
 protected:
  StateWorld() {
    std::string pattern = absl::StrCat(testing::TempDir(), "/stateXXXXXX");
    folder_ = mkdtemp(pattern.data());
  }
  ~StateWorld() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<StateFolder> Open(EventBounds bounds = {}) {
    auto state = StateFolder::Open(
        folder_, SystemClock(), [this](const std::string& text) { warnings_.push_back(text); },
        bounds);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *std::move(state) : nullptr;
  }
  static std::vector<uint64_t> Load(StateFolder& state) {
    const auto events = state.Load();
    EXPECT_TRUE(events.ok()) << events.status();
    std::vector<uint64_t> sequences;
    if (!events.ok()) return sequences;
    for (const EventPtr& event : events->events) sequences.push_back(event->sequence());
    return sequences;
  }
  std::string database() const { return folder_ + "/" + StateFolder::kDatabaseName; }
  // Behind all events of these tests by more than any restart adds.
  static constexpr uint64_t kAnew = uint64_t{1} << 40;

  std::string folder_;
  std::vector<std::string> warnings_;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_STATE_WORLD_H_
