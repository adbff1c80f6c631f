#include "engine/native/commands/bitmap_actions.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/native/bitmap_memory.h"

namespace tidemark::native {
namespace {

// One operation of a BitmapStore with its undo.
class BitmapAction : public transaction::Action {
 public:
  using Make = std::function<absl::StatusOr<graph::Change>(graph::Node& node)>;

  // `make` runs on the engine thread.
  BitmapAction(Engine* engine, std::string node_name, Make make)
      : engine_(*engine), node_name_(std::move(node_name)), make_(std::move(make)) {}

  absl::Status Prepare() override {
    return engine_.threads.OnEngine([this]() -> absl::Status {
      ASSIGN_OR_RETURN(graph::Node* const node, engine_.graph.Find(node_name_));
      ASSIGN_OR_RETURN(change_, make_(*node));
      return absl::OkStatus();
    });
  }
  void Commit() override {
    engine_.threads.OnEngine([this] { change_.commit(); });
  }
  void Undo() override {
    engine_.threads.OnEngine([this] { change_.undo(); });
  }

 protected:
  Engine& engine_;
  const std::string node_name_;

 private:
  const Make make_;
  graph::Change change_;
};

// Removes the bitmap from the image file too, once everything else has succeeded.
class RemoveAction final : public BitmapAction {
 public:
  RemoveAction(Engine* engine, const block::v1::BlockDirtyBitmapRemoveRequest& request)
      : BitmapAction(engine, request.node(),
                     [this](graph::Node& node) { return MakeChange(node); }),
        name_(request.name()) {}

  void AfterInstant() override {
    // The bitmap is gone from memory whatever happens: what stays in the file is marked as in use
    // there, so that nobody trusts it, and removing it again is harmless.
    if (driver_ != nullptr) driver_->RemoveStored(name_).IgnoreError();
  }

 private:
  absl::StatusOr<graph::Change> MakeChange(graph::Node& node) {
    ASSIGN_OR_RETURN(const graph::Bitmap* const bitmap, node.bitmaps().Find(name_));
    const bool stored = bitmap->persistent();
    ASSIGN_OR_RETURN(graph::Change change, node.bitmaps().Remove(name_));
    // The node cannot be deleted before this transaction is over: commands that touch one node run
    // one after another.
    if (stored) driver_ = &node.driver();
    return change;
  }

  const std::string name_;
  graph::Driver* driver_ = nullptr;
};

absl::StatusOr<graph::Change> Merge(Engine& engine, graph::Node& node,
                                    const block::v1::BlockDirtyBitmapMergeRequest& request) {
  std::vector<const graph::Bitmap*> sources;
  for (const block::v1::BlockDirtyBitmapOrStr& source : request.bitmaps()) {
    graph::Node* source_node = &node;
    if (source.has_external()) {
      ASSIGN_OR_RETURN(source_node, engine.graph.Find(source.external().node()));
    }
    const std::string& name = source.has_external() ? source.external().name() : source.local();
    ASSIGN_OR_RETURN(const graph::Bitmap* const bitmap, source_node->bitmaps().Find(name));
    RETURN_IF_ERROR(source_node->bitmaps().Check(*bitmap, graph::BitmapUse::kRead));
    sources.push_back(bitmap);
  }
  return node.bitmaps().Merge(request.target(), sources);
}

}  // namespace

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapAddRequest& request) {
  graph::BitmapStore::AddRequest add;
  add.name = request.name();
  if (request.has_granularity()) add.granularity_bytes = request.granularity();
  add.persistent = request.persistent();
  add.disabled = request.disabled();
  return std::make_unique<BitmapAction>(
      engine, request.node(), [engine, add](graph::Node& node) -> absl::StatusOr<graph::Change> {
        if (node.is_job_filter()) {
          return Error(Reason::kFeatureUnsupported,
                       absl::StrCat("cannot add bitmap '", add.name, "' to node '", node.name(),
                                    "': it is the filter of a job, and goes when that ends"),
                       {{"node", node.name()}, {"bitmap", add.name}});
        }
        RETURN_IF_ERROR(CheckMemoryForBitmap(*engine, node.name(), add.name));
        return node.bitmaps().Add(add);
      });
}

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapRemoveRequest& request) {
  return std::make_unique<RemoveAction>(engine, request);
}

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapClearRequest& request) {
  return std::make_unique<BitmapAction>(
      engine, request.node(),
      [name = request.name()](graph::Node& node) { return node.bitmaps().Clear(name); });
}

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapEnableRequest& request) {
  return std::make_unique<BitmapAction>(
      engine, request.node(),
      [name = request.name()](graph::Node& node) { return node.bitmaps().Enable(name); });
}

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapDisableRequest& request) {
  return std::make_unique<BitmapAction>(
      engine, request.node(),
      [name = request.name()](graph::Node& node) { return node.bitmaps().Disable(name); });
}

std::unique_ptr<transaction::Action> MakeAction(
    Engine* engine, const block::v1::BlockDirtyBitmapMergeRequest& request) {
  return std::make_unique<BitmapAction>(
      engine, request.node(),
      [engine, request](graph::Node& node) { return Merge(*engine, node, request); });
}

}  // namespace tidemark::native
