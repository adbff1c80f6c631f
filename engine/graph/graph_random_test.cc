// Random commands, and after each the rules that must hold whatever happened: seeded, so that a
// failure says which seed replays it.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/fake_driver.h"
#include "engine/graph/graph.h"
#include "engine/graph/quiesce.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionConsistentRead;
using storage::kPermissionNone;
using storage::kPermissionResize;
using storage::kPermissionWrite;

constexpr int kSeeds = 20;
constexpr int kMoves = 300;

class NoCapture final : public BeforeWrite {
 public:
  absl::Status Capture(Range) override { return absl::OkStatus(); }
};

// What everything looks like, to prove that a refusal changed nothing.
using Picture = std::map<std::string, std::multiset<std::string>>;

class World {
 public:
  explicit World(int seed) : random_(seed) {}
  ~World() {
    RemovedNodes all = graph_.TakeAll();
    EXPECT_TRUE(all.Close().ok());
    graph_.Unlink(&all);
  }

  void Move() {
    const Picture before = Draw();
    const bool changed = MakeMove();
    if (!changed) {
      EXPECT_EQ(Draw(), before);
    }
  }

  int used_filters_removed() const { return used_filters_removed_; }
  int nodes_replaced() const { return nodes_replaced_; }
  int exchanges_undone() const { return exchanges_undone_; }

  void CheckAll() {
    for (Node* node : graph_.ListNodes()) {
      SCOPED_TRACE(node->name());
      Permissions joined;
      for (const Edge* edge : node->parents()) {
        EXPECT_EQ(edge->child(), node);
        joined.used |= edge->permissions().used;
        joined.shared &= edge->permissions().shared;
        for (const Edge* other : node->parents()) {
          if (edge == other) continue;
          EXPECT_EQ(edge->permissions().used & ~other->permissions().shared, kPermissionNone);
        }
      }
      EXPECT_EQ(node->permissions(), joined);
      if (auto* driver = dynamic_cast<FakeDriver*>(&node->driver())) {
        EXPECT_EQ(driver->permissions, joined);
      }
      if (node->read_only()) {
        EXPECT_EQ(joined.used & kPermissionWrite, kPermissionNone);
      }
      for (const Edge* edge : node->children()) {
        EXPECT_EQ(edge->parent(), node);
        EXPECT_EQ(edge->permissions(),
                  ChildPermissions(edge->policy(), joined, !node->parents().empty(),
                                   node->read_only(), Permissions()));
        EXPECT_FALSE(edge->child()->Reaches(node)) << "a cycle";
        EXPECT_GT(node->depth(), edge->child()->depth());
      }
    }
    for (Edge* user : users_) {
      // The way down is open, and leads to a disk.
      EXPECT_TRUE(user->port()->Flush().ok());
    }
  }

 private:
  int Pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }
  Node* PickNode() {
    const auto nodes = graph_.ListNodes();
    return nodes.empty() ? nullptr : nodes[Pick(nodes.size())];
  }
  std::shared_ptr<FakeDriver> NewDriver() { return std::make_shared<FakeDriver>(4096); }

  // True if something was changed.
  bool MakeMove() {
    Node* node = PickNode();
    if (node == nullptr || Pick(8) == 0) return AddFile();
    switch (Pick(10)) {
      case 0:
      case 1:
        return AddImage(node);
      case 2:
      case 3:
        return AttachUser(node);
      case 4:
        return DetachUser();
      case 5:
        return Delete(node);
      case 6:
        return Replace(node);
      case 7:
        return Exchange(node);
      default:
        return node->filtered() != nullptr ? RemoveFilter(node) : InsertFilter(node);
    }
  }

  bool AddFile() {
    return graph_
        .AddNode({.driver = NewDriver(),
                  .options = {.read_only = Pick(4) == 0},
                  .ownership = Pick(2) == 0 ? Ownership::kMonitor : Ownership::kEngine})
        .ok();
  }

  // An image over `file`, and over another node, as its backing image, now and then.
  bool AddImage(Node* file) {
    NodeSpec spec = {.driver = NewDriver(),
                     .options = {.read_only = Pick(2) == 0},
                     .ownership = Pick(2) == 0 ? Ownership::kMonitor : Ownership::kParents};
    // Even a user that does nothing yet can be one too many: it wakes a filter below.
    std::vector<ChildSpec> children;
    const auto use = [&](Node* child, absl::string_view role, ChildPolicy policy) {
      auto edge = graph_.Attach(child, {.user = "opening"});
      if (edge.ok()) children.push_back({*edge, std::string(role), policy});
    };
    use(file, kRoleFile, Pick(2) == 0 ? ChildPolicy::kFormatFile : ChildPolicy::kFilter);
    if (Node* backing = PickNode(); Pick(2) == 0 && backing != file) {
      use(backing, kRoleBacking, ChildPolicy::kBacking);
    }
    spec.children = children;
    const bool added = graph_.AddNode(std::move(spec)).ok();
    if (!added) {
      for (const ChildSpec& child : children) graph_.Detach(child.edge);
    }
    return added;
  }

  bool AttachUser(Node* node) {
    const PermissionSet used = Pick(kPermissionAll + 1);
    const PermissionSet shared = Pick(3) == 0 ? Pick(kPermissionAll + 1) : kPermissionAll;
    auto edge =
        graph_.Attach(node, {.user = "user", .permissions = {used, shared}, .gated = Pick(3) != 0});
    if (edge.ok()) users_.push_back(*edge);
    return edge.ok();
  }

  bool DetachUser() {
    if (users_.empty()) return false;
    const int index = Pick(users_.size());
    graph_.Detach(users_[index]);
    users_.erase(users_.begin() + index);
    CloseAll(graph_.TakeOrphans());
    return true;
  }

  bool Delete(Node* node) {
    auto removed = graph_.DeleteNode(node->name());
    if (!removed.ok()) return false;
    CloseAll(*std::move(removed));
    CloseAll(graph_.TakeOrphans());
    return true;
  }

  bool InsertFilter(Node* below) {
    Edge* edge = *graph_.Attach(below, {.user = "job"});
    Node* filter =
        *graph_.AddNode({.driver = std::make_shared<CopyBeforeWriteDriver>(
                             edge->port(), std::make_shared<NoCapture>()),
                         .options = {.read_only = below->read_only()},
                         .ownership = Ownership::kEngine,
                         .children = {{edge, kRoleFile, ChildPolicy::kCopyBeforeWrite}}});
    Quiesce quiesce(graph_.PortsAbove({below}));
    const bool inserted = graph_.InsertFilter(filter, below).ok();
    if (!inserted) CloseAll(graph_.RemoveNode(filter));
    return inserted;
  }

  // Some or all of the uses of `from` are led to another node.
  bool Replace(Node* from) {
    Node* const to = PickNode();
    const int which = Pick(3);
    Quiesce quiesce(graph_.AllPortsAbove({from}));
    const bool replaced =
        graph_
            .Replace(from, to,
                     [&](const Edge& edge) {
                       return which == 0 || (edge.parent() == nullptr) == (which == 1);
                     })
            .ok();
    nodes_replaced_ += replaced && from != to;
    return replaced;
  }

  // The node has another driver, with the same children or fewer, for good or for a moment.
  bool Exchange(Node* node) {
    if (node->filtered() != nullptr) return false;
    NodeBody body = {.driver = NewDriver(), .options = {.read_only = Pick(3) == 0}};
    for (Edge* edge : node->children()) {
      if (Pick(3) != 0) body.children.push_back({edge, edge->role(), edge->policy()});
    }
    absl::StatusOr<Change> change = absl::UnknownError("");
    {
      Quiesce quiesce(graph_.AllPortsAbove({node}));
      change = graph_.Exchange(node, std::move(body));
      if (change.ok() && Pick(2) == 0) {
        change->undo();
        ++exchanges_undone_;
        return false;
      }
    }
    if (!change.ok()) return false;
    change->commit();
    CloseAll(graph_.TakeOrphans());
    return true;
  }

  bool RemoveFilter(Node* filter) {
    Quiesce quiesce(graph_.PortsAbove({filter}));
    used_filters_removed_ += !filter->parents().empty();
    // Never refused: its users need no more than the filter did for them.
    EXPECT_TRUE(graph_.RemoveFilter(filter).ok());
    CloseAll(graph_.RemoveNode(filter));
    return true;
  }

  void CloseAll(RemovedNodes removed) {
    EXPECT_TRUE(removed.Close().ok());
    graph_.Unlink(&removed);
  }

  Picture Draw() {
    Picture picture;
    for (Node* node : graph_.ListNodes()) {
      std::multiset<std::string>& users = picture[node->name()];
      for (const Edge* edge : node->parents()) {
        users.insert(absl::StrCat(edge->Describe(), " ", edge->permissions().used, "/",
                                  edge->permissions().shared));
      }
    }
    return picture;
  }

  std::mt19937 random_;
  Graph graph_;
  std::vector<Edge*> users_;
  int used_filters_removed_ = 0;
  int nodes_replaced_ = 0;
  int exchanges_undone_ = 0;
};

TEST(GraphRandom, TheRulesHoldWhateverIsDone) {
  int used_filters_removed = 0;
  int nodes_replaced = 0;
  int exchanges_undone = 0;
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    for (int move = 0; move < kMoves; ++move) {
      world.Move();
      world.CheckAll();
      if (testing::Test::HasFailure()) return;
    }
    used_filters_removed += world.used_filters_removed();
    nodes_replaced += world.nodes_replaced();
    exchanges_undone += world.exchanges_undone();
  }
  // Else nothing of interest happened.
  EXPECT_GT(used_filters_removed, kSeeds);
  EXPECT_GT(nodes_replaced, kSeeds);
  EXPECT_GT(exchanges_undone, kSeeds);
}

}  // namespace
}  // namespace tidemark::graph
