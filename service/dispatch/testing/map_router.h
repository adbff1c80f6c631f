// For tests: a Router that is a table, which may change at any time. Any thread.
#ifndef SERVICE_DISPATCH_TESTING_MAP_ROUTER_H_
#define SERVICE_DISPATCH_TESTING_MAP_ROUTER_H_

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "engine/base/mutex.h"
#include "service/dispatch/router.h"

namespace tidemark::dispatch {

class MapRouter final : public Router {
 public:
  // Replaces what had the name.
  void Set(std::string instance, std::shared_ptr<backend::Backend> backend) {
    MutexLock lock(&mutex_);
    backends_[std::move(instance)] = std::move(backend);
  }

  std::shared_ptr<backend::Backend> Find(absl::string_view instance) const override {
    MutexLock lock(&mutex_);
    const auto found = backends_.find(std::string(instance));
    return found == backends_.end() ? nullptr : found->second;
  }

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<backend::Backend>> backends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::dispatch

#endif  // SERVICE_DISPATCH_TESTING_MAP_ROUTER_H_
