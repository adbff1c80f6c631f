// What a request touches, by its names alone: the keys by which commands are put in order
// (order_book.h). Any thread.
#ifndef ENGINE_NATIVE_COMMAND_KEYS_H_
#define ENGINE_NATIVE_COMMAND_KEYS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/native/order_book.h"
#include "google/protobuf/message.h"

namespace tidemark::native {

// The nodes, files, exports and job ids that `message` names anywhere within it. (Bitmaps go with
// their node.)
OrderBook::Keys KeysOf(const google::protobuf::Message& message);

// The keys of nodes by their names.
OrderBook::Keys KeysOfNodes(const std::vector<std::string>& node_names);

// The name by which a file is known in keys: "/a//./b" is "/a/b". No disk is asked.
std::string FileKeyOf(absl::string_view path);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMAND_KEYS_H_
