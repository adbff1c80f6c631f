// For tests: a Backend that answers what it is told to, and remembers what it was asked.
#ifndef ENGINE_BACKEND_TESTING_FAKE_BACKEND_H_
#define ENGINE_BACKEND_TESTING_FAKE_BACKEND_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/command.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {

class FakeBackend final : public Backend {
 public:
  using Answer =
      std::function<absl::Status(const Command&, const google::protobuf::Message& request,
                                 google::protobuf::Message* response)>;

  // Knows every command and answers OK.
  FakeBackend() {
    capabilities_->version = "fake";
    for (const auto& command : CommandIndex::Get().commands()) {
      capabilities_->commands.insert(command->qmp_name);
    }
  }

  void SetAnswer(Answer answer) {
    MutexLock lock(&mutex_);
    answer_ = std::move(answer);
  }

  // Hands over what answers a call, instead of answering it.
  void SetAsyncAnswer(std::function<void(Done)> answer) {
    MutexLock lock(&mutex_);
    async_answer_ = std::move(answer);
  }

  // "blockdev-add" for each call that arrived.
  std::vector<std::string> calls() const {
    MutexLock lock(&mutex_);
    return calls_;
  }

  void Call(const Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* result, Done done) override {
    Answer answer;
    std::function<void(Done)> async_answer;
    {
      MutexLock lock(&mutex_);
      calls_.push_back(command.qmp_name);
      answer = answer_;
      async_answer = async_answer_;
    }
    if (async_answer != nullptr) return async_answer(std::move(done));
    done(answer == nullptr ? absl::OkStatus() : answer(command, request, result));
  }

  std::shared_ptr<const Capabilities> capabilities() const override { return capabilities_; }
  // To be changed before the first call only.
  Capabilities& mutable_capabilities() { return *capabilities_; }

 private:
  const std::shared_ptr<Capabilities> capabilities_ = std::make_shared<Capabilities>();

  mutable Mutex mutex_;
  Answer answer_ ABSL_GUARDED_BY(mutex_);
  std::function<void(Done)> async_answer_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_TESTING_FAKE_BACKEND_H_
