// Whether an image that records another's file name and format as its backing file shows, when it
// is opened by these some day, what the node shows now.
#ifndef ENGINE_NATIVE_RECORDED_CHAIN_H_
#define ENGINE_NATIVE_RECORDED_CHAIN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/graph/node.h"
#include "engine/native/engine.h"
#include "engine/storage/file.h"

namespace tidemark::native {

class RecordedChain {
 public:
  // Of the node (what a job has put above it does not count) and of all that is below it.
  // `attempted` is for refusals: NODE_LACKS_FEATURE for what no file name and format stand for,
  // INVALID_COMBINATION where an image is not open above the backing file that its header names.
  // Engine thread.
  static absl::StatusOr<RecordedChain> Of(const graph::Node& node, absl::string_view attempted);

  // What names alone could not tell: whether two names are one file. Blocks: a graph-command
  // worker.
  absl::Status CheckFiles(Engine& engine) const;

 private:
  // An image, and the file that its header names.
  struct Link {
    std::string overlay;
    std::string backing;
    std::string recorded_path;
    storage::FileIdentity opened_file;
  };

  absl::Status Add(const graph::Node& node);
  absl::Status AddBacking(const graph::Node& node, const std::string& filename);
  absl::Status Refuse(const graph::Node& node, absl::string_view why) const;
  absl::Status RefuseLink(const std::string& overlay, const std::string& backing) const;

  std::string attempted_;
  // Those whose names differ.
  std::vector<Link> unclear_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_RECORDED_CHAIN_H_
