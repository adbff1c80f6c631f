// Four dangers, and those that lie in how nodes hang together (graph_dangers.h).
//
// Undoing. If a transaction fails at an enable, QEMU undoes that one too: a bitmap that it has not
// found ends it, and one that it has found but must not touch stops recording. So each enable is
// rehearsed: in a transaction that ends with `abort` its bitmap is merged into one made for that,
// which is refused for the same reasons and in the same words, and is undone without a trace.
//
// Sizes. Bitmaps of a node do not follow when the file below it is resized. The next write behind
// the old end, or a backup by such a bitmap, ends QEMU. Resizing is refused, and backups are
// rehearsed as enables are, for the file may have been resized by others.
//
// Inactive images. While a virtual machine waits to be migrated here, or has been migrated away,
// its images belong to another. Most commands find out; those that do not end QEMU.
//
// Filters of jobs. A QEMU before 9.1 lets the node on which a copy-before-write node stands hold
// the bitmaps of the copy. If that is the filter of a job, it ends with them, and QEMU too.
#include "adapters/qmp/precaution.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "adapters/qmp/error_table.h"
#include "adapters/qmp/graph_dangers.h"
#include "adapters/qmp/graph_view.h"
#include "adapters/qmp/transcoder.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::FieldDescriptor;

namespace {

// Of the bitmap that is made for a rehearsal. Coarse, so that it costs nothing.
constexpr char kRehearsed[] = "tidemark-rehearsal";
constexpr int64_t kRehearsedGranularity = int64_t{1} << 31;

// In these the images of a virtual machine are, or may be, inactive.
constexpr absl::string_view kInactiveStates[] = {"inmigrate", "postmigrate", "finish-migrate"};
// In these they are if it has been migrated here and is to activate them late (QEMU's capability
// late-block-activate), which is when it goes on.
constexpr absl::string_view kHaltedStates[] = {"prelaunch", "paused"};
constexpr char kLateActivation[] = "late-block-activate";

bool IsStatusOneOf(const Json& answer, absl::Span<const absl::string_view> states) {
  const Json::string_t* const state = StringMember(answer, "status");
  return state != nullptr && std::find(states.begin(), states.end(), *state) != states.end();
}

Json Action(absl::string_view type, Json data) {
  return Json{{"type", std::string(type)}, {"data", std::move(data)}};
}

// The nodes that a definition of an image to be made names.
void CollectReferences(const google::protobuf::Message& message, std::vector<std::string>* names) {
  if (message.GetDescriptor() == v1::BlockdevRef::descriptor()) {
    const auto& ref = static_cast<const v1::BlockdevRef&>(message);
    if (ref.has_reference()) names->push_back(ref.reference());
    return;
  }
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* const field : fields) {
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field->is_repeated()) continue;
    CollectReferences(message.GetReflection()->GetMessage(message, field), names);
  }
}

constexpr char kAborted[] = "Transaction aborted using Abort action";

// How QEMU speaks of a node that has lost its image, for its activation has failed.
constexpr char kEjectedBegin[] = "Block device ";
constexpr char kEjectedEnd[] = " is ejected";
constexpr char kNoImage[] = "No medium found";

// A virtual machine that was migrated here and has not gone on since, by what query-status,
// query-migrate and query-migrate-capabilities answered. Or it has, and is halted again.
bool MayWaitForActivation(const Json& status, const Json& migration, const Json& capabilities) {
  const absl::string_view completed[] = {"completed"};
  return IsStatusOneOf(status, kHaltedStates) && IsStatusOneOf(migration, completed) &&
         capabilities.is_array() &&
         std::any_of(capabilities.begin(), capabilities.end(), [](const Json& capability) {
           const Json::string_t* const name = StringMember(capability, "capability");
           const Json* const is_on = Member(capability, "state");
           return name != nullptr && *name == kLateActivation && is_on != nullptr && *is_on == true;
         });
}

bool IsOfAnotherSize(const QmpError& error) {
  return absl::StartsWith(error.desc, "Bitmaps are of different sizes ");
}

// --- Refusals of our own.

// The node of which QEMU says that it has lost its image; empty if it says no such thing.
std::string EjectedNode(const Reply& answer) {
  if (!answer.error.has_value()) return "";
  absl::string_view text = answer.error->desc;
  if (!absl::ConsumePrefix(&text, kEjectedBegin) || !absl::ConsumeSuffix(&text, kEjectedEnd)) {
    return "";
  }
  return std::string(text);
}

absl::Status RefuseInactive(const backend::Command& command, const std::string& node) {
  return Refuse(command, Reason::kMachineState,
                absl::StrCat("the image of node '", node,
                             "' is inactive, for the virtual machine is being or has been "
                             "migrated, and QEMU would end"),
                {{"node", node}});
}

}  // namespace

bool TellsInactiveByRunState(const Schema& schema) {
  return schema.FindCommand("blockdev-set-active") == nullptr &&
         schema.FindCommand("query-status") != nullptr;
}

bool IsInactiveRunState(const Json& status) { return IsStatusOneOf(status, kInactiveStates); }

// Makes a Precaution.
class Planner {
 public:
  Planner(const backend::Command& command, const google::protobuf::Message& request,
          const Schema& schema, Precaution* precaution)
      : command_(command), request_(request), schema_(schema), precaution_(*precaution) {}

  void Plan() {
    if (const auto* const transaction = As<v1::TransactionRequest>(request_)) {
      PlanTransaction(*transaction);
    } else {
      PlanAlone(request_);
      if (const auto* const backup = As<v1::BlockdevBackupRequest>(request_)) {
        RehearseBackup(Json::array(), backup->device(), backup->bitmap());
      } else if (const auto* const copy = As<v1::DriveBackupRequest>(request_)) {
        RehearseBackup(Json::array(), copy->device(), copy->bitmap());
      }
    }
    PlanDangers();
  }

 private:
  using Answers = Precaution::Answers;

  template <typename Request>
  static const Request* As(const google::protobuf::Message& message) {
    return message.GetDescriptor() == Request::descriptor() ? static_cast<const Request*>(&message)
                                                            : nullptr;
  }

  bool Knows(absl::string_view command) const { return schema_.FindCommand(command) != nullptr; }

  // Where the answer will be.
  size_t Ask(absl::string_view command, Json arguments = nullptr) {
    precaution_.questions_.push_back({std::string(command), std::move(arguments)});
    return precaution_.questions_.size() - 1;
  }
  void Check(Precaution::Check check) { precaution_.checks_.push_back(std::move(check)); }

  // --- What a request may need by itself, also as an action.

  void PlanAlone(const google::protobuf::Message& message) {
    if (const auto* const resize = As<v1::BlockResizeRequest>(message)) {
      PlanResize(resize->device().empty() ? resize->node_name() : resize->device());
    } else if (const auto* const create = As<v1::BlockdevCreateRequest>(message)) {
      std::vector<std::string> names;
      CollectReferences(create->options(), &names);
      for (const std::string& name : names) {
        PlanResize(name);
        if (create->options().has_vhdx()) PlanVhdx(name);
      }
    } else if (const auto* const change = As<v1::ChangeBackingFileRequest>(message)) {
      const std::string name = change->image_node_name();
      PlanInactive(name, [command = &command_, name](const GraphView&, bool is_inactive) {
        return is_inactive ? RefuseInactive(*command, name) : absl::OkStatus();
      });
    } else if (const auto* const snapshot = As<v1::BlockdevSnapshotRequest>(message)) {
      RehearseOverlay(snapshot->overlay());
    } else if (As<v1::BlockdevReopenRequest>(message) != nullptr) {
      // Also because QEMU does not tell of its nodes when one has lost its image.
      AskForGraph(/*with_state=*/false);
    } else if (const auto* const node = As<v1::BlockdevAddRequest>(message)) {
      PlanCopied(node->options());
    } else if (const auto* const add = As<v1::BlockDirtyBitmapAddRequest>(message)) {
      PlanStored(add->node(), add->name(), Reason::kBitmapExists);
    } else if (const auto* const remove = As<v1::BlockDirtyBitmapRemoveRequest>(message)) {
      PlanStored(remove->node(), remove->name(), Reason::kMachineState);
    }
  }

  // A bitmap that the image of an inactive node keeps: it comes back with the activation.
  void PlanStored(const std::string& node, const std::string& bitmap, Reason reason) {
    PlanInactive(node, [=, command = &command_](const GraphView& graph, bool is_inactive) {
      if (!is_inactive || !graph.ImageHasBitmap(graph.Resolve(node), bitmap)) {
        return absl::OkStatus();
      }
      return Refuse(*command, reason,
                    absl::StrCat("the image of node '", node, "' is inactive and keeps a bitmap '",
                                 bitmap, "', over which QEMU would end sooner or later"),
                    {{"node", node}, {"bitmap", bitmap}});
    });
  }

  void PlanResize(const std::string& name) {
    const auto judge = [command = &command_, refuses_by_itself = TellsInactive(), name](
                           const GraphView& graph, bool is_inactive) {
      if (is_inactive && !refuses_by_itself) return RefuseInactive(*command, name);
      const std::string marked = graph.MarkedNodeOfItsSize(graph.Resolve(name));
      if (marked.empty()) return absl::OkStatus();
      return Refuse(*command, Reason::kNodeBusy,
                    absl::StrCat("the bitmaps of node '", marked, "', which shows node '", name,
                                 "', would not follow, and QEMU ends when they are used then; "
                                 "resize '",
                                 marked, "' instead"),
                    {{"node", name}, {"parent", marked}});
    };
    PlanInactive(name, judge, /*always=*/true);
  }

  // QEMU makes a VHDX image only in a node that nobody else has.
  void PlanVhdx(const std::string& name) {
    const auto judge = [command = &command_, name](const GraphView& graph, bool) {
      if (!graph.IsUsed(graph.Resolve(name))) return absl::OkStatus();
      return Refuse(*command, Reason::kNodeBusy,
                    absl::StrCat("node '", name,
                                 "' is in use, and QEMU ends when it makes a VHDX image in such"),
                    {{"node", name}});
    };
    PlanInactive(name, judge, /*always=*/true);
  }

  void PlanCopied(const v1::BlockdevOptions& options) {
    if (CopiesKeepTheirBitmaps(schema_)) return;
    for (const std::string& name : CopiedNodes(options)) {
      const auto judge = [command = &command_, name](const GraphView& graph, bool) {
        const std::string job = graph.JobOfFilter(graph.Resolve(name));
        if (job.empty()) return absl::OkStatus();
        return Refuse(*command, Reason::kNodeBusy,
                      absl::StrCat("node '", name, "' is the filter of job '", job,
                                   "', and QEMU would end with the job if a copy-before-write node "
                                   "stood on it; wait for the job, or put it on the node below"),
                      {{"node", name}, {"job", job}});
      };
      PlanInactive(name, judge, /*always=*/true);
    }
  }

  // Behind all else: what is known of the graph by then is not asked for again.
  void PlanDangers() {
    std::vector<GraphCheck> checks = GraphChecks(command_, request_, schema_);
    if (checks.empty() || !Knows(kGraphQuery)) return;
    // Which node is a mirror's stands in its record only.
    if (As<v1::BlockExportAddRequest>(request_) || As<v1::NbdServerAddRequest>(request_)) {
      AskForGraph(/*with_state=*/false);
    }
    if (!graph_.has_value()) graph_ = Ask(kGraphQuery);
    Check([checks = std::move(checks), graph = *graph_, knows_nodes = is_graph_asked_,
           nodes = nodes_](const Answers& answers) {
      const Json none;
      const GraphView view(answers[graph].value, knows_nodes ? answers[nodes].value : none);
      for (const GraphCheck& check : checks) RETURN_IF_ERROR(check(view));
      return absl::OkStatus();
    });
  }

  // Calls `judge` with the graph, and with whether `name` is inactive. If no node of this QEMU can
  // be, not at all, unless `always`.
  void PlanInactive(const std::string& name,
                    std::function<absl::Status(const GraphView&, bool)> judge,
                    bool always = false) {
    if (!CanBeInactive() && !always) return;
    AskForGraph(TellsInactiveByRunState(schema_));
    Check([name, judge = std::move(judge), state = state_, late = late_, graph = graph_,
           nodes = nodes_](const Answers& answers) {
      const Json none;
      const GraphView view(graph.has_value() ? answers[*graph].value : none, answers[nodes].value);
      const std::string node = view.Resolve(name);
      bool is_inactive = false;
      if (!state.has_value()) {
        is_inactive = view.IsInactive(node);
      } else if (IsInactiveRunState(answers[*state].value)) {
        is_inactive = true;
      } else if (late.has_value() &&
                 MayWaitForActivation(answers[*state].value, answers[*late].value,
                                      answers[*late + 1].value)) {
        is_inactive = !view.KeepsWritersOut(node);
      }
      return judge(view, is_inactive);
    });
  }

  bool TellsInactive() const { return Knows("blockdev-set-active"); }
  bool CanBeInactive() const { return TellsInactive() || TellsInactiveByRunState(schema_); }

  void AskForGraph(bool with_state) {
    if (is_graph_asked_) return;
    is_graph_asked_ = true;
    if (with_state) state_ = Ask("query-status");
    if (with_state && Knows("query-migrate") && Knows("query-migrate-capabilities")) {
      late_ = Ask("query-migrate");
      Ask("query-migrate-capabilities");
    }
    if (Knows(kGraphQuery)) graph_ = Ask(kGraphQuery);
    nodes_ = Ask("query-named-block-nodes", Json{{"flat", true}});
  }

  // --- Transactions.

  void PlanTransaction(const v1::TransactionRequest& transaction) {
    using Action = v1::TransactionAction;
    // Bitmaps that come and go before the action at hand.
    Json before = Json::array();
    bool is_replaced = false;
    for (const Action& action : transaction.actions()) {
      const google::protobuf::Message* message = nullptr;
      switch (action.action_case()) {
        case Action::kBlockDirtyBitmapAdd:
          message = &action.block_dirty_bitmap_add();
          before.push_back(qmp::Action("block-dirty-bitmap-add", ToJson(*message)));
          break;
        case Action::kBlockDirtyBitmapRemove:
          message = &action.block_dirty_bitmap_remove();
          before.push_back(qmp::Action("block-dirty-bitmap-remove", ToJson(*message)));
          break;
        case Action::kBlockDirtyBitmapEnable:
          RehearseEnable(before, action.block_dirty_bitmap_enable(), is_replaced);
          break;
        case Action::kBlockdevBackup:
          RehearseBackup(before, action.blockdev_backup().device(),
                         action.blockdev_backup().bitmap());
          break;
        case Action::kDriveBackup:
          RehearseBackup(before, action.drive_backup().device(), action.drive_backup().bitmap());
          break;
        case Action::kBlockdevSnapshot:
          message = &action.blockdev_snapshot();
          is_replaced = true;
          break;
        case Action::kBlockdevSnapshotSync:
          is_replaced = true;
          break;
        default:
          break;
      }
      if (message != nullptr) PlanAlone(*message);
    }
  }

  static Json AddRehearsed(const std::string& node) {
    return Action("block-dirty-bitmap-add", {{"node", node},
                                             {"name", kRehearsed},
                                             {"granularity", kRehearsedGranularity},
                                             {"disabled", true}});
  }
  size_t AskAndAbort(Json actions) {
    actions.push_back(Action("abort", Json::object()));
    return Ask("transaction", {{"actions", std::move(actions)}});
  }

  // What was refused, if anything, when the bitmap was to be merged into another.
  size_t Rehearse(Json actions, const std::string& node, const std::string& bitmap) {
    actions.push_back(AddRehearsed(node));
    actions.push_back(
        Action("block-dirty-bitmap-merge",
               {{"node", node}, {"target", kRehearsed}, {"bitmaps", Json::array({bitmap})}}));
    return AskAndAbort(std::move(actions));
  }

  // A node whose activation has failed, over a bitmap that its image keeps and somebody had added
  // again, has no image any more. Of a single node QEMU tells that only when it would be used.
  void RehearseOverlay(const std::string& overlay) {
    if (!CanBeInactive() || !Knows("transaction")) return;
    Check([=, command = &command_,
           at = AskAndAbort(Json::array({AddRehearsed(overlay)}))](const Answers& answers) {
      if (!absl::EndsWith(answers[at].error->desc, kNoImage)) return absl::OkStatus();
      return Refuse(*command, Reason::kMachineState,
                    absl::StrCat("node '", overlay,
                                 "' has lost its image, for its activation failed, and QEMU would "
                                 "end; remove it and add it again"),
                    {{"node", overlay}});
    });
  }

  void RehearseEnable(const Json& before, const v1::BlockDirtyBitmapEnableRequest& enable,
                      bool is_replaced) {
    const std::string node = enable.node();
    const std::string bitmap = enable.name();
    if (is_replaced) {
      Check([=, command = &command_](const Answers&) {
        return Refuse(*command, Reason::kInvalidCombination,
                      absl::StrCat("bitmap '", bitmap, "' of '", node,
                                   "' is enabled behind a snapshot, and it cannot be known "
                                   "beforehand what has that name then, of which QEMU ends if it "
                                   "is not there; put it before the snapshot, which means the "
                                   "same instant"),
                      {{"node", node}, {"bitmap", bitmap}, {"field", "actions"}});
      });
      return;
    }
    Check([command = &command_, request = &request_,
           at = Rehearse(before, node, bitmap)](const Answers& answers) {
      const QmpError& error = *answers[at].error;
      if (error.desc == kAborted || IsOfAnotherSize(error)) return absl::OkStatus();
      return FromQemu(error.error_class, error.desc, command->qmp_name, *request);
    });
  }

  void RehearseBackup(const Json& before, const std::string& node, const std::string& bitmap) {
    if (bitmap.empty() || !Knows("transaction")) return;
    Check([=, command = &command_, at = Rehearse(before, node, bitmap)](const Answers& answers) {
      // All else QEMU refuses by itself.
      if (!IsOfAnotherSize(*answers[at].error)) return absl::OkStatus();
      return Refuse(*command, Reason::kSizeMismatch,
                    absl::StrCat("bitmap '", bitmap, "' has not the size of node '", node,
                                 "', whose file was resized below it; QEMU would end. Remove the "
                                 "bitmap and begin with a full backup"),
                    {{"node", node}, {"bitmap", bitmap}});
    });
  }

  const backend::Command& command_;
  const google::protobuf::Message& request_;
  const Schema& schema_;
  Precaution& precaution_;
  bool is_graph_asked_ = false;
  absl::optional<size_t> state_;
  // Of the first of the two questions about migration.
  absl::optional<size_t> late_;
  absl::optional<size_t> graph_;
  size_t nodes_ = 0;
};

absl::optional<Precaution> Precaution::For(const backend::Command& command,
                                           const google::protobuf::Message& request,
                                           const Schema& schema) {
  Precaution precaution;
  Planner(command, request, schema, &precaution).Plan();
  if (precaution.questions_.empty() && precaution.checks_.empty()) return absl::nullopt;
  return precaution;
}

absl::Status Precaution::Judge(const Answers& answers) const {
  for (size_t i = 0; i < answers.size(); ++i) {
    const Reply& answer = answers[i];
    if (!answer.status.ok()) return answer.status;
    if (const std::string node = EjectedNode(answer); !node.empty()) {
      return Error(Reason::kMachineState,
                   absl::StrCat("The request was not sent to QEMU, to protect it: node '", node,
                                "' has lost its image, for its activation failed, and while it is "
                                "there QEMU does not tell of its nodes; remove it"),
                   {{"node", node}});
    }
    // A rehearsal always ends with a refusal, and a query never.
    if (answer.error.has_value() != (questions_[i].command == "transaction")) {
      return Error(Reason::kQemuRefused,
                   absl::StrCat("QEMU does not say what must be known beforehand: ",
                                questions_[i].command, " was answered ",
                                answer.error.has_value() ? answer.error->desc : "without a word"));
    }
  }
  for (const Check& check : checks_) RETURN_IF_ERROR(check(answers));
  return absl::OkStatus();
}

}  // namespace tidemark::qmp
