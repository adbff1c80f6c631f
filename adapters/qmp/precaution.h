// What QEMU is asked before a request is sent to it, because some answers mean that it would not
// survive the request: a node of the wrong state, a bitmap that is not there. Any thread; constant
// after it is made.
//
// The questions change nothing and tell clients nothing. Nothing else that changes the graph goes
// out between them and the request (QmpBackend sees to that), so what they tell still holds then,
// as far as nobody else commands this QEMU.
#ifndef ADAPTERS_QMP_PRECAUTION_H_
#define ADAPTERS_QMP_PRECAUTION_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/message.h"
#include "adapters/qmp/schema.h"
#include "engine/backend/command.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// While a virtual machine waits to be migrated here, or has been migrated away, its images are
// inactive. A QEMU before 10.0 does not tell of which nodes that is so: its run state must do.
bool TellsInactiveByRunState(const Schema& schema);
// What query-status answered there.
bool IsInactiveRunState(const Json& status);

class Precaution {
 public:
  struct Question {
    std::string command;
    Json arguments;
  };
  // The answers to all questions, in their order.
  using Answers = std::vector<Reply>;

  // What `request`, the arguments of `command`, needs on a QEMU of that schema. Absent: nothing.
  // `request` must outlive it.
  static absl::optional<Precaution> For(const backend::Command& command,
                                        const google::protobuf::Message& request,
                                        const Schema& schema);

  const std::vector<Question>& questions() const { return questions_; }

  // OK: the request may be sent. Else why it must not be: with QEMU's own words where it would have
  // refused, and our own, which say so, where it would have ended.
  absl::Status Judge(const Answers& answers) const;

 private:
  friend class Planner;
  using Check = std::function<absl::Status(const Answers& answers)>;

  std::vector<Question> questions_;
  std::vector<Check> checks_;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_PRECAUTION_H_
