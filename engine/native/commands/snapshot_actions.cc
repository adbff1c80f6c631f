#include "engine/native/commands/snapshot_actions.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/create.h"
#include "engine/native/chain.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/freezing.h"
#include "engine/native/graph_change.h"
#include "engine/native/job_writes.h"
#include "engine/native/jobs/create_image.h"
#include "engine/native/node_closing.h"
#include "engine/native/recorded_chain.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevSnapshotSyncRequest;

// What is asked of the overlay: nobody minds that it goes on being written beneath it until then.
graph::AttachRequest BackingUse(const std::string& overlay) {
  return {.user = absl::StrCat("node '", overlay, "'"),
          .role = graph::kRoleBacking,
          .permissions = {.used = storage::kPermissionConsistentRead,
                          .shared = storage::kPermissionAll}};
}

// Whether `overlay` can go above `node`. Engine thread.
absl::Status CheckOverlay(const graph::Node& node, const graph::Node& overlay) {
  if (node.Reaches(&overlay)) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("node '", overlay.name(), "' cannot be an overlay of node '",
                              node.name(), "', which uses it itself"),
                 {{"overlay", overlay.name()}, {"node", node.name()}});
  }
  const DriverRow* const driver = FindDriver(overlay.driver().name());
  if (driver == nullptr || !driver->has_backing) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("node '", overlay.name(), "' cannot be an overlay: its driver ",
                              overlay.driver().name(), " has no backing images"),
                 {{"overlay", overlay.name()}});
  }
  if (const graph::Node* const backing = overlay.backing(); backing != nullptr) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("node '", overlay.name(), "' has a backing image, node '",
                              backing->name(), "': open an overlay with `backing` none"),
                 {{"overlay", overlay.name()}, {"node", backing->name()}});
  }
  if (!overlay.parents().empty()) {
    const std::string user = overlay.parents()[0]->User();
    return Error(
        Reason::kNodeBusy,
        absl::StrCat("node '", overlay.name(), "' cannot be an overlay: it is in use by ", user),
        {{"overlay", overlay.name()}, {"user", user}});
  }
  return absl::OkStatus();
}

// The node, or one that writes through it, is what a job copies to.
bool IsTarget(const graph::Node& node) {
  if (!graph::Graph::CheckNotBlocked(node, graph::Operation::kBackupTarget).ok()) return true;
  return absl::c_any_of(node.parents(), [](const graph::Edge* edge) {
    return HandsWritesOn(edge) && IsTarget(*edge->parent());
  });
}

// Jobs go on with what they have, and the target of one stays what it is: what it shows of the
// source besides what was copied is in the node that is not written any more.
bool GoesOn(const graph::Edge& edge) {
  if (edge.parent() == nullptr) return edge.gated();
  return edge.policy() != graph::ChildPolicy::kBacking || !IsTarget(*edge.parent());
}

// Whether somebody uses a node through this edge who will go on when jobs have ended: their filters
// go then.
bool IsOfUser(const graph::Edge* edge) {
  if (edge->parent() == nullptr) return edge->gated();
  return !edge->parent()->is_job_filter() || absl::c_any_of(edge->parent()->parents(), IsOfUser);
}

// An overlay above a node, with the users of the node led to it. Engine thread.
class Overlaying {
 public:
  absl::Status Link(graph::Graph& graph, graph::Node* node, graph::Node* overlay) {
    RETURN_IF_ERROR(graph::Graph::CheckNotBlocked(*node, graph::Operation::kSnapshot));
    RETURN_IF_ERROR(graph::Graph::CheckNotBlocked(*overlay, graph::Operation::kSnapshot));
    RETURN_IF_ERROR(CheckOverlay(*node, *overlay));
    RETURN_IF_ERROR(CheckNoJobWrites(*node));
    ASSIGN_OR_RETURN(backing_, graph.Attach(node, BackingUse(overlay->name())));
    absl::StatusOr<graph::Change> change = graph.SetBacking(overlay, backing_);
    if (!change.ok()) {
      graph.Detach(std::exchange(backing_, nullptr));
      return change.status();
    }
    change_ = *std::move(change);
    absl::Status status = graph.Replace(node, overlay, [this](const graph::Edge& edge) {
      if (&edge == backing_ || !GoesOn(edge)) return false;
      moved_.insert(&edge);
      return true;
    });
    if (!status.ok()) {
      moved_.clear();
    } else {
      froze_ = !node->read_only();
      status = graph.Freeze(node);
    }
    if (!status.ok()) Unlink(graph, node, overlay);
    return status;
  }
  void Unlink(graph::Graph& graph, graph::Node* node, graph::Node* overlay) {
    if (std::exchange(froze_, false)) graph.Thaw(node);
    const absl::Status back = graph.Replace(
        overlay, node, [this](const graph::Edge& edge) { return moved_.contains(&edge); });
    back.IgnoreError();  // They were there a moment ago.
    change_.undo();
    graph.Detach(std::exchange(backing_, nullptr));
  }
  void Commit() { change_.commit(); }
  bool has_users() const { return absl::c_any_of(moved_, IsOfUser); }

 private:
  graph::Edge* backing_ = nullptr;
  graph::Change change_;
  bool froze_ = false;
  absl::flat_hash_set<const graph::Edge*> moved_;
};

class SnapshotAction : public transaction::Action {
 public:
  SnapshotAction(Engine* engine, std::string node_name, std::string overlay_name)
      : engine_(*engine),
        node_name_(std::move(node_name)),
        overlay_name_(std::move(overlay_name)) {}

  // Most of what guests have written goes to the disk before they are held for the rest.
  absl::Status Open() override {
    Flush().IgnoreError();  // An unknown node, among others: refused when its turn comes.
    return absl::OkStatus();
  }

  absl::Status Prepare() override {
    // A guest's later flush goes to the overlay alone, and promises what was written before, too.
    RETURN_IF_ERROR(Flush());
    return ChangeGraph(
        engine_.threads, engine_.graph,
        [this]() -> absl::Status {
          ASSIGN_OR_RETURN(node_, engine_.graph.Find(node_name_));
          ASSIGN_OR_RETURN(overlay_, FindOverlay());
          return overlaying_.Link(engine_.graph, node_, overlay_);
        },
        [this] { overlaying_.Unlink(engine_.graph, node_, overlay_); });
  }
  void Commit() override {
    engine_.threads.OnEngine([this] {
      overlaying_.Commit();
      OnCommitted(overlaying_.has_users());
    });
  }
  void Undo() override {
    ChangeGraph(engine_.threads, engine_.graph,
                [this] { overlaying_.Unlink(engine_.graph, node_, overlay_); });
  }
  void AfterInstant() override { FinishFreezing(engine_, node_); }

 protected:
  Engine& engine() { return engine_; }
  const std::string& node_name() const { return node_name_; }

  // Engine thread.
  virtual absl::StatusOr<graph::Node*> FindOverlay() { return engine_.graph.Find(overlay_name_); }
  virtual void OnCommitted(bool /*has_users*/) {}

 private:
  absl::Status Flush() {
    ASSIGN_OR_RETURN(
        const std::shared_ptr<storage::Storage> disk,
        engine_.threads.OnEngine([this]() -> absl::StatusOr<std::shared_ptr<storage::Storage>> {
          ASSIGN_OR_RETURN(graph::Node* const node, engine_.graph.Find(node_name_));
          return node->storage();
        }));
    return Annotate(disk->Flush(),
                    absl::StrCat("cannot take a snapshot of node '", node_name_, "'"));
  }

  Engine& engine_;
  const std::string node_name_;
  const std::string overlay_name_;
  graph::Node* node_ = nullptr;
  graph::Node* overlay_ = nullptr;
  Overlaying overlaying_;
};

// With an overlay that is opened for it, and made unless it exists.
class SnapshotSyncAction final : public SnapshotAction {
 public:
  SnapshotSyncAction(Engine* engine, BlockdevSnapshotSyncRequest request)
      : SnapshotAction(engine, request.node_name(), request.snapshot_node_name()),
        request_(std::move(request)),
        attempted_(absl::StrCat("cannot make \"", request_.snapshot_file(),
                                "\" an overlay of node '", request_.node_name(), "'")) {}
  ~SnapshotSyncAction() override {
    if (opened_ == nullptr) return;
    // Opened, and not put above anything: the transaction has failed.
    CloseNodes(engine().threads, engine().graph, engine().threads.OnEngine([this] {
      engine().graph.LeaveToUsers(opened_);
      return engine().graph.TakeOrphans();
    })).IgnoreError();
  }

  absl::Status Open() override {
    if (!request_.device().empty()) {
      return Error(Reason::kNodeNotFound,
                   absl::StrCat("the native engine has no drives, and so no drive '",
                                request_.device(), "'"),
                   {{"node", request_.device()}});
    }
    ASSIGN_OR_RETURN(const Base base, engine().threads.OnEngine([this] { return LookAtBase(); }));
    RETURN_IF_ERROR(CheckFormat());
    if (request_.mode() != block::v1::NEW_IMAGE_MODE_EXISTING) {
      RETURN_IF_ERROR(base.chain.status());
      RETURN_IF_ERROR(base.chain->CheckFiles(engine()));
      RETURN_IF_ERROR(Create(base));
    }
    BlockdevOptions options = Qcow2OptionsOver(base);
    ASSIGN_OR_RETURN(opened_, OpenAlone(engine(), options, attempted_));
    return SnapshotAction::Open();
  }

 protected:
  absl::StatusOr<graph::Node*> FindOverlay() override { return opened_; }
  void OnCommitted(bool has_users) override {
    // QEMU lets go of it if nobody uses it, and with it of what was asked for.
    graph::Node* const overlay = std::exchange(opened_, nullptr);
    has_users ? engine().graph.LeaveToUsers(overlay) : engine().graph.LeaveToMonitor(overlay);
  }

 private:
  // What the overlay is made from.
  struct Base {
    uint64_t size_bytes = 0;
    std::string filename;
    std::string driver;
    graph::NodeOptions options;
    // Of an overlay that is made: whether it can record what it is above.
    absl::StatusOr<RecordedChain> chain;
  };

  // Engine thread.
  absl::StatusOr<Base> LookAtBase() {
    ASSIGN_OR_RETURN(graph::Node* const node, engine().graph.Find(node_name()));
    RETURN_IF_ERROR(graph::Graph::CheckNotBlocked(*node, graph::Operation::kSnapshot));
    RETURN_IF_ERROR(engine().graph.CheckNewName(request_.snapshot_node_name()));
    const graph::Node& image = *node->WithoutJobFilters();
    return Base{.size_bytes = node->storage()->size_bytes(),
                .filename = image.driver().filename(),
                .driver = std::string(image.driver().name()),
                .options = node->options(),
                .chain = RecordedChain::Of(image, attempted_)};
  }

  absl::Status CheckFormat() const {
    const std::string format = request_.format().empty() ? "qcow2" : request_.format();
    const DriverRow* const driver = FindDriver(format);
    if (driver == nullptr) {
      return Error(Reason::kInvalidField,
                   absl::StrCat(attempted_, ": unknown format \"", format, "\""),
                   {{"field", "format"}});
    }
    if (driver->has_backing) return absl::OkStatus();
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat(attempted_, ": format ", format, " has no backing images"),
                 {{"format", format}});
  }

  absl::Status Create(const Base& base) {
    qcow2::CreateOptions create;
    create.size_bytes = base.size_bytes;
    // Absolute: the overlay may lie in another folder.
    create.backing_file = AbsolutePath(base.filename);
    create.backing_format = base.driver;
    return CreateImageAt(engine(), request_.snapshot_file(), "blockdev-snapshot-sync", attempted_,
                         [&](storage::Storage& file) { return qcow2::Create(file, create); });
  }

  // The overlay is opened as the node is.
  BlockdevOptions Qcow2OptionsOver(const Base& base) const {
    BlockdevOptions options;
    options.set_node_name(request_.snapshot_node_name());
    options.set_read_only(base.options.read_only);
    options.mutable_cache()->set_direct(base.options.cache_direct);
    options.mutable_cache()->set_no_flush(base.options.cache_no_flush);
    options.set_discard(base.options.discard == graph::DiscardMode::kUnmap
                            ? block::v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP
                            : block::v1::BLOCKDEV_DISCARD_OPTIONS_IGNORE);
    block::v1::BlockdevOptionsQcow2& qcow2 = *options.mutable_qcow2();
    qcow2.mutable_file()->mutable_definition()->mutable_file()->set_filename(
        request_.snapshot_file());
    qcow2.mutable_backing()->mutable_none();
    return options;
  }

  const BlockdevSnapshotSyncRequest request_;
  const std::string attempted_;
  // Until it has users, or the monitor has it.
  graph::Node* opened_ = nullptr;
};

}  // namespace

std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const block::v1::BlockdevSnapshotRequest& request) {
  return std::make_unique<SnapshotAction>(engine, request.node(), request.overlay());
}

std::unique_ptr<transaction::Action> MakeAction(Engine* engine,
                                                const BlockdevSnapshotSyncRequest& request) {
  return std::make_unique<SnapshotSyncAction>(engine, request);
}

}  // namespace tidemark::native
