// The commands on bitmaps as actions of a transaction; alone they are transactions of one.
#ifndef ENGINE_NATIVE_COMMANDS_BITMAP_ACTIONS_H_
#define ENGINE_NATIVE_COMMANDS_BITMAP_ACTIONS_H_

#include <memory>

#include "engine/native/engine.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/bitmap.pb.h"

namespace tidemark::native {

// Graph-command worker. `engine` outlives the action; requests are copied.
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapAddRequest&);
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapRemoveRequest&);
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapClearRequest&);
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapEnableRequest&);
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapDisableRequest&);
std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockDirtyBitmapMergeRequest&);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_BITMAP_ACTIONS_H_
