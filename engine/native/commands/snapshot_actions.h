// External snapshots as actions of a transaction: an image, the overlay, goes above a node, whose
// users write to it from then on. Alone they are transactions of one.
#ifndef ENGINE_NATIVE_COMMANDS_SNAPSHOT_ACTIONS_H_
#define ENGINE_NATIVE_COMMANDS_SNAPSHOT_ACTIONS_H_

#include <memory>

#include "engine/native/engine.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/snapshot.pb.h"

namespace tidemark::native {

// Graph-command worker. The instant of the transaction is one of `node` or `node_name`.
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockdevSnapshotRequest& request);
std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockdevSnapshotSyncRequest& request);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_SNAPSHOT_ACTIONS_H_
