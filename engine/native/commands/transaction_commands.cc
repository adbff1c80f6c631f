#include "engine/native/commands/transaction_commands.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "engine/base/status_macros.h"
#include "engine/native/commands/bitmap_actions.h"
#include "engine/native/commands/snapshot_actions.h"
#include "engine/native/jobs/backup_action.h"
#include "engine/native/nodes_instant.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::native {
namespace {

using namespace block::v1;  // NOLINT: a file about requests.

using Actions = std::vector<std::unique_ptr<transaction::Action>>;

class AbortAction final : public transaction::Action {
 public:
  absl::Status Prepare() override {
    return Error(Reason::kTransactionAborted, "the transaction's action `abort` undid it");
  }
};

// One of several: what it refuses names it.
class NumberedAction final : public transaction::Action {
 public:
  NumberedAction(std::unique_ptr<transaction::Action> action, size_t number)
      : action_(std::move(action)), path_(absl::StrCat("actions[", number, "]")) {}

  absl::Status Open() override { return WithMetadata(action_->Open(), "field", path_); }
  absl::Status Prepare() override { return WithMetadata(action_->Prepare(), "field", path_); }
  void Commit() override { action_->Commit(); }
  void Undo() override { action_->Undo(); }
  void AfterInstant() override { action_->AfterInstant(); }

 private:
  const std::unique_ptr<transaction::Action> action_;
  const std::string path_;
};

// A transaction of one action on one node.
template <typename Request>
absl::Status RunAction(Engine& engine, const Request& request, const std::string& node_name) {
  Actions actions;
  actions.push_back(MakeAction(&engine, request));
  NodesInstant instant(&engine, {node_name});
  return transaction::Run(actions, instant);
}

absl::Status RunBackup(Engine& engine, BackupRequest request) {
  NodesInstant instant(&engine, {request.source_node});
  Actions actions;
  actions.push_back(MakeBackupAction(&engine, std::move(request), nullptr));
  return transaction::Run(actions, instant);
}

// The action, and in `node_names` the node that it changes.
std::unique_ptr<transaction::Action> FromProto(Engine& engine, const TransactionAction& action,
                                               const std::shared_ptr<job::JobGroup>& group,
                                               std::vector<std::string>* node_names) {
  const auto make = [&](const auto& request) {
    node_names->push_back(request.node());
    return MakeAction(&engine, request);
  };
  const auto backup = [&](BackupRequest request) {
    node_names->push_back(request.source_node);
    return MakeBackupAction(&engine, std::move(request), group);
  };
  switch (action.action_case()) {
    case TransactionAction::kBlockDirtyBitmapAdd:
      return make(action.block_dirty_bitmap_add());
    case TransactionAction::kBlockDirtyBitmapRemove:
      return make(action.block_dirty_bitmap_remove());
    case TransactionAction::kBlockDirtyBitmapClear:
      return make(action.block_dirty_bitmap_clear());
    case TransactionAction::kBlockDirtyBitmapEnable:
      return make(action.block_dirty_bitmap_enable());
    case TransactionAction::kBlockDirtyBitmapDisable:
      return make(action.block_dirty_bitmap_disable());
    case TransactionAction::kBlockDirtyBitmapMerge:
      return make(action.block_dirty_bitmap_merge());
    case TransactionAction::kBlockdevBackup:
      return backup(native::FromProto(action.blockdev_backup()));
    case TransactionAction::kDriveBackup:
      return backup(native::FromProto(action.drive_backup()));
    case TransactionAction::kAbort:
      return std::make_unique<AbortAction>();
    case TransactionAction::kBlockdevSnapshot:
      return make(action.blockdev_snapshot());
    case TransactionAction::kBlockdevSnapshotSync:
      node_names->push_back(action.blockdev_snapshot_sync().node_name());
      return MakeAction(&engine, action.blockdev_snapshot_sync());
    // Only QEMU has this.
    case TransactionAction::kBlockdevSnapshotInternalSync:
    case TransactionAction::ACTION_NOT_SET:
      break;
  }
  return nullptr;
}

absl::Status RunTransaction(Engine& engine, const TransactionRequest& request) {
  const bool grouped = request.properties().completion_mode() == ACTION_COMPLETION_MODE_GROUPED;
  const auto group = grouped ? std::make_shared<job::JobGroup>() : nullptr;
  std::vector<std::string> node_names;
  Actions actions;
  for (const TransactionAction& action : request.actions()) {
    std::unique_ptr<transaction::Action> made = FromProto(engine, action, group, &node_names);
    if (made == nullptr)
      return Error(Reason::kFieldUnsupported, "the native engine has no such action");
    actions.push_back(std::make_unique<NumberedAction>(std::move(made), actions.size()));
  }
  NodesInstant instant(&engine, std::move(node_names));
  return transaction::Run(actions, instant);
}

// Hashing takes a while for a large bitmap: threads that no job needs do it, while the name is
// looked up here.
void HashBitmap(Engine& engine, const DebugBlockDirtyBitmapSha256Request& request,
                DebugBlockDirtyBitmapSha256Response* response, Handlers::Done done) {
  const absl::StatusOr<graph::Node*> node = engine.graph.Find(request.node());
  if (!node.ok()) return done(node.status());
  const absl::StatusOr<graph::Bitmap*> bitmap = (*node)->bitmaps().Find(request.name());
  if (!bitmap.ok()) return done(bitmap.status());
  engine.hashes->Post([bits = (*bitmap)->bits(), response, done = std::move(done)] {
    response->set_sha256(bits->Sha256());
    done(absl::OkStatus());
  });
}

template <typename Request, typename Response>
void AddBitmapCommand(Engine* engine, Handlers* handlers) {
  handlers->Add<Request, Response>([engine](const Request& request, Response*) {
    return RunAction(*engine, request, request.node());
  });
}

}  // namespace

void AddTransactionCommands(Engine* engine, Handlers* handlers) {
  AddBitmapCommand<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(engine, handlers);
  AddBitmapCommand<BlockDirtyBitmapRemoveRequest, BlockDirtyBitmapRemoveResponse>(engine, handlers);
  AddBitmapCommand<BlockDirtyBitmapClearRequest, BlockDirtyBitmapClearResponse>(engine, handlers);
  AddBitmapCommand<BlockDirtyBitmapEnableRequest, BlockDirtyBitmapEnableResponse>(engine, handlers);
  AddBitmapCommand<BlockDirtyBitmapDisableRequest, BlockDirtyBitmapDisableResponse>(engine,
                                                                                    handlers);
  AddBitmapCommand<BlockDirtyBitmapMergeRequest, BlockDirtyBitmapMergeResponse>(engine, handlers);
  handlers->AddLater<DebugBlockDirtyBitmapSha256Request, DebugBlockDirtyBitmapSha256Response>(
      [engine](const DebugBlockDirtyBitmapSha256Request& request,
               DebugBlockDirtyBitmapSha256Response* response,
               Handlers::Done done) { HashBitmap(*engine, request, response, std::move(done)); });
  handlers->Add<BlockdevBackupRequest, BlockdevBackupResponse>(
      [engine](const BlockdevBackupRequest& request, BlockdevBackupResponse*) {
        return RunBackup(*engine, native::FromProto(request));
      });
  handlers->Add<DriveBackupRequest, DriveBackupResponse>(
      [engine](const DriveBackupRequest& request, DriveBackupResponse*) {
        return RunBackup(*engine, native::FromProto(request));
      });
  handlers->Add<BlockdevSnapshotRequest, BlockdevSnapshotResponse>(
      [engine](const BlockdevSnapshotRequest& request, BlockdevSnapshotResponse*) {
        return RunAction(*engine, request, request.node());
      });
  handlers->Add<BlockdevSnapshotSyncRequest, BlockdevSnapshotSyncResponse>(
      [engine](const BlockdevSnapshotSyncRequest& request, BlockdevSnapshotSyncResponse*) {
        return RunAction(*engine, request, request.node_name());
      });
  handlers->Add<TransactionRequest, TransactionResponse>(
      [engine](const TransactionRequest& request, TransactionResponse*) {
        return RunTransaction(*engine, request);
      });
}

}  // namespace tidemark::native
