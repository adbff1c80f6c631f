// The guests of some nodes, held for a job's last step.
#ifndef ENGINE_NATIVE_JOBS_PORT_HOLD_H_
#define ENGINE_NATIVE_JOBS_PORT_HOLD_H_

#include <memory>
#include <vector>

#include "engine/graph/quiesce.h"
#include "engine/job/job.h"
#include "engine/native/limits.h"

namespace tidemark::native {

class PortHold final : public job::GuestHold {
 public:
  // Waits for what is in flight; meanwhile nobody is held for long because of another's slow disk.
  // Graph-command worker.
  explicit PortHold(const std::vector<std::shared_ptr<graph::Port>>& ports) {
    quiesce_.AddPatiently(ports, kInstantPatience);
  }

 private:
  graph::Quiesce quiesce_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_PORT_HOLD_H_
