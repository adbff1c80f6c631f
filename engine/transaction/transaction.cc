#include "engine/transaction/transaction.h"

#include <cstddef>

#include "engine/base/status_macros.h"

namespace tidemark::transaction {
namespace {

absl::Status PrepareAll(const std::vector<std::unique_ptr<Action>>& actions) {
  for (size_t prepared = 0; prepared < actions.size(); ++prepared) {
    absl::Status status = actions[prepared]->Prepare();
    if (status.ok()) continue;
    while (prepared > 0) actions[--prepared]->Undo();
    return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Run(const std::vector<std::unique_ptr<Action>>& actions, Instant& instant) {
  for (const std::unique_ptr<Action>& action : actions) RETURN_IF_ERROR(action->Open());
  instant.Begin();
  absl::Status status = PrepareAll(actions);
  if (status.ok()) {
    for (const std::unique_ptr<Action>& action : actions) action->Commit();
  }
  instant.End();
  if (status.ok()) {
    for (const std::unique_ptr<Action>& action : actions) action->AfterInstant();
  }
  return status;
}

}  // namespace tidemark::transaction
