// For tests: virtual machines that are registered, over monitors that a test plays.
#ifndef ADAPTERS_QMP_INSTANCES_WORLD_H_
#define ADAPTERS_QMP_INSTANCES_WORLD_H_

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapters/qmp/instances.h"
#include "adapters/qmp/testing/fake_monitor.h"
#include "adapters/qmp/testing/memory_store.h"
#include "adapters/qmp/testing/socket_folder.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/notification.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;

inline void Prepare(FakeMonitor& monitor) {
  monitor.Answer("query-qmp-schema", Json::array());
  monitor.Answer("query-jobs", Json::array());
  monitor.Answer("query-block-jobs", Json::array());
  monitor.Answer("query-block-exports", Json::array());
  monitor.Answer("query-name", Json{{"name", "guest"}});
  monitor.Answer("query-uuid", Json{{"UUID", "11111111-2222-3333-4444-555555555555"}});
  monitor.Answer("query-status", Json{{"running", true}, {"status", "running"}});
}

class InstancesTest : public ::testing::Test {
 protected:
  InstancesTest() {
    options_.random = [] { return 0.0; };
    options_.warn = [this](const std::string& text) {
      MutexLock lock(&mutex_);
      warnings_.push_back(text);
    };
  }
  ~InstancesTest() override { Stop(); }

  absl::Status Start() {
    instances_ =
        std::make_unique<Instances>(options_,
                                    BridgeContext{loop_, workers_, workers_, lookups_, log_, jobs_,
                                                  &store_, SystemClock(), dialects_},
                                    books_);
    return instances_->Start();
  }
  void Stop() {
    if (instances_ != nullptr) instances_->Shutdown();
    instances_ = nullptr;
  }

  static v1::CreateInstanceRequest Request(const std::string& id, const std::string& path) {
    v1::CreateInstanceRequest request;
    request.set_id(id);
    request.mutable_address()->mutable_unix_socket()->set_path(path);
    return request;
  }
  absl::StatusOr<v1::Instance> Create(const std::string& id, const std::string& path) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<v1::Instance>>>();
    instances_->Create(Request(id, path), [promise](absl::StatusOr<v1::Instance> instance) {
      promise->set_value(std::move(instance));
    });
    return promise->get_future().get();
  }
  absl::Status Delete(const std::string& id) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    instances_->Delete(id,
                       [promise](absl::Status status) { promise->set_value(std::move(status)); });
    return promise->get_future().get();
  }
  // Waits for the next event, behind those waited for before, that makes `condition` true of `id`.
  template <typename Condition>
  v1::Instance WaitUntil(const std::string& id, Condition condition) {
    return WaitForEvent(id,
                        [&](const backend::Event& event) {
                          return condition(event.instance_state_change().instance());
                        })
        .instance_state_change()
        .instance();
  }
  template <typename Condition>
  backend::Event WaitForEvent(const std::string& id, Condition condition) {
    for (;;) {
      const auto events = log_.Read(seen_);
      for (const auto& event : *events) {
        seen_ = event->sequence();
        if (event->instance() == id && condition(*event)) return *event;
      }
      auto woken = std::make_shared<Notification>();
      log_.WakeAfter(seen_, [woken] { woken->Notify(); });
      if (!woken->WaitFor(absl::Minutes(1))) {
        ADD_FAILURE() << "'" << id << "' did not become what was waited for: "
                      << instances_->Get(id)->ShortDebugString();
        return {};
      }
    }
  }
  v1::Instance WaitFor(const std::string& id, v1::InstanceState state) {
    return WaitUntil(id, [state](const v1::Instance& i) { return i.state() == state; });
  }
  std::vector<std::string> warnings() {
    MutexLock lock(&mutex_);
    return warnings_;
  }

  const SocketFolder folder_;
  InstancesOptions options_;
  MemoryStore store_;
  SerialExecutor books_{"books"};
  IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  LookupPool lookups_{workers_};
  backend::EventLog log_{SystemClock(), workers_};
  backend::JobBook jobs_{log_};
  DialectCache dialects_;
  std::unique_ptr<Instances> instances_;
  uint64_t seen_ = 0;

  Mutex mutex_;
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_INSTANCES_WORLD_H_
