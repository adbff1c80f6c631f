// What query-named-block-nodes tells of a node.
#ifndef ENGINE_NATIVE_NODE_INFO_H_
#define ENGINE_NATIVE_NODE_INFO_H_

#include "engine/graph/node.h"
#include "tidemark/block/v1/image_info.pb.h"

namespace tidemark::native {

// Engine thread: answers from memory and one look at the file's size on disk. `flat` leaves out the
// backing images.
void FillNodeInfo(const graph::Node& node, bool flat, block::v1::BlockDeviceInfo* info);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NODE_INFO_H_
