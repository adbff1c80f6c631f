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
    switch (Pick(7)) {
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
};

TEST(GraphRandom, TheRulesHoldWhateverIsDone) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    for (int move = 0; move < kMoves; ++move) {
      world.Move();
      world.CheckAll();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(world.used_filters_removed(), 0) << "nothing of interest happened";
  }
}

}  // namespace
}  // namespace tidemark::graph
