// From the name of an instance to its engine.
#ifndef SERVICE_RPC_ROUTER_H_
#define SERVICE_RPC_ROUTER_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/backend/backend.h"
#include "engine/base/mutex.h"

namespace tidemark::rpc {

// Any thread; never blocks.
class Router {
 public:
  virtual ~Router() = default;

  // Null if no engine has this name. The empty name is the native engine. A backend stays usable
  // for as long as it is held.
  virtual std::shared_ptr<backend::Backend> Find(absl::string_view instance) const = 0;

  // All names, sorted.
  virtual std::vector<std::string> Names() const = 0;
};

// A table that may change at any time.
class MapRouter final : public Router {
 public:
  // Replaces what had the name.
  void Set(std::string instance, std::shared_ptr<backend::Backend> backend) {
    MutexLock lock(&mutex_);
    backends_[std::move(instance)] = std::move(backend);
  }
  void Remove(const std::string& instance) {
    MutexLock lock(&mutex_);
    backends_.erase(instance);
  }

  std::shared_ptr<backend::Backend> Find(absl::string_view instance) const override {
    MutexLock lock(&mutex_);
    const auto found = backends_.find(std::string(instance));
    return found == backends_.end() ? nullptr : found->second;
  }
  std::vector<std::string> Names() const override {
    MutexLock lock(&mutex_);
    std::vector<std::string> names;
    for (const auto& [name, backend] : backends_) names.push_back(name);
    return names;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<backend::Backend>> backends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_ROUTER_H_
