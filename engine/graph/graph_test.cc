#include "engine/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/fake_driver.h"
#include "engine/graph/limits.h"
#include "engine/graph/quiesce.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionConsistentRead;
using storage::kPermissionNone;
using storage::kPermissionResize;
using storage::kPermissionWrite;
using storage::MemoryStorage;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kDiskBytes = 1 << 20;
constexpr Permissions kGuest = {kPermissionConsistentRead | kPermissionWrite,
                                kPermissionAll & ~kPermissionResize};
constexpr Permissions kReader = {kPermissionConsistentRead, kPermissionAll};

void ExpectRefused(const absl::Status& status, Reason reason, absl::string_view words = "") {
  const auto details = DetailsOf(status);
  ASSERT_TRUE(details.has_value()) << status;
  EXPECT_EQ(NameOf(details->reason), NameOf(reason)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(words)));
}

// Never called: filters of these tests only move.
class NoCapture final : public BeforeWrite {
 public:
  absl::Status Capture(Range) override { return absl::OkStatus(); }
};

class GraphTest : public testing::Test {
 protected:
  ~GraphTest() override {
    RemovedNodes all = graph.TakeAll();
    EXPECT_TRUE(all.Close().ok());
    graph.Unlink(&all);
  }

  std::shared_ptr<FakeDriver> NewDriver(absl::string_view name = "fake") {
    auto driver = std::make_shared<FakeDriver>(std::make_shared<MemoryStorage>(kDiskBytes),
                                               std::string(name));
    driver->close_clock = close_clock;
    driver->stores_bitmaps = true;
    drivers.push_back(driver);
    return driver;
  }
  // A node without children, such as a file.
  Node* AddFile(const std::string& name, NodeOptions options = {},
                Ownership ownership = Ownership::kMonitor) {
    auto node = graph.AddNode(
        {.name = name, .driver = NewDriver(), .options = options, .ownership = ownership});
    EXPECT_TRUE(node.ok()) << node.status();
    return node.ok() ? *node : nullptr;
  }
  Edge* Use(Node* node, Permissions permissions = {}, bool gated = true,
            const std::string& user = "block export 'e'") {
    auto edge = graph.Attach(node, {.user = user, .permissions = permissions, .gated = gated});
    EXPECT_TRUE(edge.ok()) << edge.status();
    return edge.ok() ? *edge : nullptr;
  }
  // An image over `file`, and over `backing` if there is one.
  absl::StatusOr<Node*> TryAddImage(const std::string& name, Node* file, Node* backing = nullptr,
                                    NodeOptions options = {}) {
    NodeSpec spec = {.name = name, .driver = NewDriver(), .options = options};
    spec.children.push_back({Use(file), kRoleFile, ChildPolicy::kFormatFile});
    if (backing != nullptr) {
      spec.children.push_back({Use(backing), kRoleBacking, ChildPolicy::kBacking});
    }
    const std::vector<ChildSpec> children = spec.children;
    auto node = graph.AddNode(std::move(spec));
    if (!node.ok()) {
      for (const ChildSpec& child : children) graph.Detach(child.edge);
    }
    return node;
  }
  Node* AddImage(const std::string& name, Node* backing = nullptr, NodeOptions options = {}) {
    Node* file = AddFile("", {.read_only = options.read_only, .discard = DiscardMode::kUnmap},
                         Ownership::kParents);
    auto node = TryAddImage(name, file, backing, options);
    EXPECT_TRUE(node.ok()) << node.status();
    return node.ok() ? *node : nullptr;
  }
  Node* AddFilter(const std::string& name, Node* below) {
    Edge* edge = Use(below, {}, true, "block job 'j'");
    auto node = graph.AddNode({.name = name,
                               .driver = std::make_shared<CopyBeforeWriteDriver>(
                                   edge->port(), std::make_shared<NoCapture>()),
                               .ownership = Ownership::kEngine,
                               .children = {{edge, kRoleFile, ChildPolicy::kCopyBeforeWrite}}});
    EXPECT_TRUE(node.ok()) << node.status();
    return *node;
  }
  absl::Status Delete(absl::string_view name) {
    auto removed = graph.DeleteNode(name);
    if (!removed.ok()) return removed.status();
    absl::Status status = removed->Close();
    graph.Unlink(&*removed);
    return status;
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    for (Node* node : graph.ListNodes()) names.push_back(node->name());
    return names;
  }
  FakeDriver& DriverOf(Node* node) { return static_cast<FakeDriver&>(node->driver()); }

  Graph graph;
  std::shared_ptr<int> close_clock = std::make_shared<int>(0);
  std::vector<std::shared_ptr<FakeDriver>> drivers;
};

// ---- Names ----

TEST_F(GraphTest, NamesAreLettersDigitsAndThreeSigns) {
  for (const char* good : {"a", "disk0", "A-b.c_D", "x123456789012345678901234567890"}) {
    EXPECT_TRUE(graph.CheckNewName(good).ok()) << good;
  }
  for (const char* bad : {"", "0a", "#block1", "-a", "a b", "a/b", "a\xc3\xa9", "_a"}) {
    ExpectRefused(graph.CheckNewName(bad), Reason::kInvalidField, bad);
  }
  const std::string long_name(kNodeNameLengthMax + 1, 'x');
  ExpectRefused(graph.CheckNewName(long_name), Reason::kInvalidField, long_name);
}

TEST_F(GraphTest, ATakenNameIsRefused) {
  AddFile("disk0");
  ExpectRefused(graph.AddNode({.name = "disk0", .driver = NewDriver()}).status(),
                Reason::kNodeExists, "'disk0'");
  EXPECT_THAT(Names(), ElementsAre("disk0"));
}

TEST_F(GraphTest, NodesWithoutANameAreGivenOne) {
  Node* first = AddFile("");
  Node* second = AddFile("");
  EXPECT_TRUE(first->has_generated_name());
  EXPECT_NE(first->name(), second->name());
  EXPECT_THAT(first->name(), testing::StartsWith("#block"));
  EXPECT_EQ(*graph.Find(first->name()), first);
}

TEST_F(GraphTest, AnUnknownNameIsNotFound) {
  ExpectRefused(graph.Find("nobody").status(), Reason::kNodeNotFound, "'nobody'");
}

TEST_F(GraphTest, NodesAreListedNewestFirst) {
  AddFile("a");
  AddFile("b");
  AddFile("c");
  EXPECT_THAT(Names(), ElementsAre("c", "b", "a"));
}

TEST_F(GraphTest, HiddenNodesAppearWithTheNodeAboveThem) {
  Node* file = *graph.AddNode(
      {.name = "f", .driver = NewDriver(), .ownership = Ownership::kParents, .hidden = true});
  EXPECT_THAT(Names(), ElementsAre());
  ExpectRefused(graph.CheckNewName("f"), Reason::kNodeExists);
  ASSERT_TRUE(TryAddImage("disk0", file).ok());
  EXPECT_THAT(Names(), ElementsAre("disk0", "f"));
}

TEST_F(GraphTest, ChainsAreWalkedThroughFilters) {
  Node* base = AddImage("base");
  Node* middle = AddImage("middle", base);
  Node* filter = AddFilter("filter", middle);
  Node* top = AddImage("top", filter);
  EXPECT_EQ(base->backing_depth(), 0);
  EXPECT_EQ(top->backing_depth(), 2);
  EXPECT_EQ(top->backing(), filter);
  EXPECT_EQ(filter->WithoutFilters(), middle);
  EXPECT_TRUE(top->Reaches(base));
  EXPECT_FALSE(base->Reaches(top));
}

// ---- Permissions ----

TEST_F(GraphTest, ASecondImageOnOneFileIsRefusedAndNothingChanges) {
  Node* file = AddFile("f");
  ASSERT_TRUE(TryAddImage("a", file).ok());
  const Permissions before = file->permissions();
  const absl::Status status = TryAddImage("b", file).status();
  ExpectRefused(status, Reason::kPermissionConflict, "node 'f'");
  EXPECT_THAT(std::string(status.message()), HasSubstr("'write, resize'"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("node 'a' (as 'file')"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("node 'b' (as 'file')"));
  EXPECT_EQ(file->permissions(), before);
  EXPECT_EQ(file->parents().size(), 1);
  EXPECT_THAT(Names(), ElementsAre("a", "f"));
}

TEST_F(GraphTest, TwoReadOnlyImagesOnOneFileAreFine) {
  Node* file = AddFile("f", {.read_only = true});
  EXPECT_TRUE(TryAddImage("a", file, nullptr, {.read_only = true}).ok());
  EXPECT_TRUE(TryAddImage("b", file, nullptr, {.read_only = true}).ok());
}

TEST_F(GraphTest, AReadOnlyNodeRefusesWriters) {
  Node* disk = AddImage("disk0", nullptr, {.read_only = true});
  ExpectRefused(graph.Attach(disk, {.user = "block export 'e'", .permissions = kGuest}).status(),
                Reason::kNodeReadOnly, "'disk0'");
  EXPECT_TRUE(disk->parents().empty());
  Use(disk, kReader);
}

TEST_F(GraphTest, AWritableImageNeedsAWritableFile) {
  Node* file = AddFile("f", {.read_only = true});
  ExpectRefused(TryAddImage("disk0", file).status(), Reason::kNodeReadOnly, "'f'");
  EXPECT_THAT(Names(), ElementsAre("f"));
}

TEST_F(GraphTest, PermissionsReachTheFileThroughAFilter) {
  Node* file = AddFile("f");
  EXPECT_EQ(DriverOf(file).permissions, Permissions());
  Node* filter = AddFilter("filter", file);
  EXPECT_EQ(DriverOf(file).permissions.used, kPermissionNone);
  Edge* guest = Use(filter, kGuest);
  EXPECT_EQ(DriverOf(file).permissions.used, kPermissionConsistentRead | kPermissionWrite);
  ASSERT_TRUE(graph.ChangePermissions(guest, kReader).ok());
  EXPECT_EQ(DriverOf(file).permissions.used, kPermissionConsistentRead);
  graph.Detach(guest);
  EXPECT_EQ(DriverOf(file).permissions, Permissions());
}

TEST_F(GraphTest, ADriverThatRefusesLeavesEveryDriverAsItWas) {
  Node* file = AddFile("f");
  Node* filter = AddFilter("filter", file);
  Edge* reader = Use(filter, kReader);
  DriverOf(file).refused_permissions = kPermissionWrite;
  ExpectRefused(graph.ChangePermissions(reader, kGuest), Reason::kImageLocked, "'f'");
  ExpectRefused(graph.Attach(filter, {.user = "other", .permissions = kGuest}).status(),
                Reason::kImageLocked);
  EXPECT_EQ(DriverOf(file).permissions.used, kPermissionConsistentRead);
  EXPECT_EQ(reader->permissions(), kReader);
  EXPECT_EQ(filter->parents().size(), 1);
}

TEST_F(GraphTest, ATargetIsNotExportedAsWell) {
  Node* target = AddImage("target");
  Use(target, {kPermissionWrite, kPermissionConsistentRead}, false, "block job 'backup0'");
  ExpectRefused(graph.Attach(target, {.user = "block export 'e'", .permissions = kGuest}).status(),
                Reason::kPermissionConflict, "block job 'backup0'");
}

TEST_F(GraphTest, AForceSharedImageSharesEverything) {
  Node* file = AddFile("f", {.force_share = true});
  ASSERT_TRUE(TryAddImage("disk0", file, nullptr, {.force_share = true}).ok());
  EXPECT_EQ(file->permissions().shared, kPermissionAll);
}

TEST_F(GraphTest, OneBackingImageServesSeveralOverlays) {
  Node* base = AddImage("base", nullptr, {.read_only = true});
  AddImage("a", base);
  AddImage("b", base);
  EXPECT_EQ(base->parents().size(), 2);
}

TEST_F(GraphTest, AnOverlayWithAWriterStillLetsItsBackingImageBeReadOnly) {
  Node* base = AddImage("base", nullptr, {.read_only = true});
  Node* top = AddImage("top", base);
  Use(top, kGuest);
  EXPECT_EQ(base->permissions().used, kPermissionConsistentRead);
}

TEST_F(GraphTest, TooDeepAChainIsRefused) {
  Node* node = AddFile("f");
  for (int depth = 2; depth <= kGraphDepthMax; ++depth) {
    Edge* edge = Use(node);
    node = *graph.AddNode({.driver = NewDriver(), .children = {{edge, kRoleFile}}});
  }
  Edge* edge = Use(node);
  ExpectRefused(
      graph.AddNode({.name = "deep", .driver = NewDriver(), .children = {{edge, "file"}}}).status(),
      Reason::kLimitReached, "'deep'");
  EXPECT_EQ(edge->parent(), nullptr);
}

// ---- Deleting ----

TEST_F(GraphTest, DeletingTheTopTakesInlineChildrenAndLeavesOwnNodes) {
  Node* base = AddImage("base");
  AddImage("top", base);
  EXPECT_EQ(Names().size(), 4);
  ASSERT_TRUE(Delete("top").ok());
  EXPECT_EQ(Names().size(), 2);
  EXPECT_TRUE(base->parents().empty());
  EXPECT_TRUE(Delete("base").ok());
  EXPECT_TRUE(Names().empty());
}

TEST_F(GraphTest, NodesAreClosedFromTheTopAndWithTheirBitmaps) {
  Node* top = AddImage("top");
  Node* file = top->ChildInRole(kRoleFile);
  auto top_driver = drivers[1];
  auto file_driver = drivers[0];
  ASSERT_EQ(&DriverOf(file), file_driver.get());
  ASSERT_TRUE(top->bitmaps().Add({.name = "keep", .persistent = true}).ok());
  ASSERT_TRUE(top->bitmaps().Add({.name = "forget"}).ok());
  auto removed = graph.DeleteNode("top");
  ASSERT_TRUE(removed.ok());
  EXPECT_TRUE(Names().empty());
  // The lock on the file is held until the image has been written back.
  EXPECT_EQ(file_driver->permissions.used & kPermissionWrite, kPermissionWrite);
  ASSERT_TRUE(removed->Close().ok());
  graph.Unlink(&*removed);
  EXPECT_EQ(top_driver->closed_when, 1);
  EXPECT_EQ(file_driver->closed_when, 2);
  ASSERT_EQ(top_driver->stored.size(), 1);
  EXPECT_EQ(top_driver->stored[0].name, "keep");
}

TEST_F(GraphTest, ACloseThatFailsIsToldAndTheRestIsClosed) {
  AddImage("top");
  drivers[1]->close_status = Error(Reason::kNoSpace, "disk full");
  auto removed = graph.DeleteNode("top");
  ExpectRefused(removed->Close(), Reason::kNoSpace, "'top'");
  graph.Unlink(&*removed);
  EXPECT_EQ(drivers[0]->closed_when, 2);
}

TEST_F(GraphTest, ANodeInUseIsNotDeleted) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  const std::string inline_file = top->ChildInRole(kRoleFile)->name();
  ExpectRefused(Delete("nobody"), Reason::kNodeNotFound, "'nobody'");
  ExpectRefused(Delete("base"), Reason::kNodeBusy, "as the backing image of node 'top'");
  ExpectRefused(Delete(inline_file), Reason::kNodeNotOwned, inline_file);
  Edge* edge = Use(top, kGuest);
  ExpectRefused(Delete("top"), Reason::kNodeBusy, "in use by block export 'e'");
  graph.Detach(edge);
  Node* named = AddFile("named");
  ASSERT_TRUE(TryAddImage("over", named).ok());
  ExpectRefused(Delete("named"), Reason::kNodeBusy, "node 'over' (as 'file')");
  const uint64_t block = graph.Block(top, OperationSet::All(), "in use by block job 'j' (backup)");
  ExpectRefused(Delete("top"), Reason::kNodeBusy, "in use by block job 'j' (backup)");
  graph.Unblock(top, block);
  EXPECT_EQ(Names().size(), 6);
  EXPECT_TRUE(Delete("top").ok());
}

TEST_F(GraphTest, AnInlineChildThatSomebodyElseUsesOutlivesItsParent) {
  Node* top = AddImage("top");
  Node* file = top->ChildInRole(kRoleFile);
  Edge* edge = Use(file, kReader);
  ASSERT_TRUE(Delete("top").ok());
  EXPECT_THAT(Names(), ElementsAre(file->name()));
  EXPECT_TRUE(graph.TakeOrphans().empty());
  graph.Detach(edge);
  RemovedNodes orphans = graph.TakeOrphans();
  EXPECT_FALSE(orphans.empty());
  EXPECT_TRUE(orphans.Close().ok());
  graph.Unlink(&orphans);
  EXPECT_TRUE(Names().empty());
}

TEST_F(GraphTest, AnImplicitChainGoesWithItsTop) {
  // Without a backing option, the images below are opened without names.
  Node* base_file = AddFile("", {.read_only = true}, Ownership::kParents);
  Edge* edge = Use(base_file);
  Node* base = *graph.AddNode({.driver = NewDriver(),
                               .options = {.read_only = true},
                               .ownership = Ownership::kParents,
                               .children = {{edge, kRoleFile, ChildPolicy::kFormatFile}}});
  AddImage("top", base);
  EXPECT_EQ(Names().size(), 4);
  ASSERT_TRUE(Delete("top").ok());
  EXPECT_TRUE(Names().empty());
}

TEST_F(GraphTest, DeletingAnOverlayGivesItsBackingImageFree) {
  Node* base = AddImage("base");
  AddImage("top", base);
  auto removed = graph.DeleteNode("top");
  ExpectRefused(Delete("base"), Reason::kNodeBusy);  // Until the overlay is closed.
  ASSERT_TRUE(removed->Close().ok());
  graph.Unlink(&*removed);
  EXPECT_TRUE(Delete("base").ok());
}

TEST_F(GraphTest, ABlockForbidsOnlyWhatItSays) {
  Node* disk = AddFile("disk0");
  const uint64_t id = graph.Block(disk, Operation::kDelete | Operation::kBackupTarget,
                                  "in use by block job 'j' (mirror)");
  EXPECT_TRUE(Graph::CheckNotBlocked(*disk, Operation::kBackupSource).ok());
  ExpectRefused(Graph::CheckNotBlocked(*disk, Operation::kBackupTarget), Reason::kNodeBusy,
                "node 'disk0' is in use by block job 'j' (mirror)");
  graph.Unblock(disk, id);
  EXPECT_TRUE(Graph::CheckNotBlocked(*disk, Operation::kBackupTarget).ok());
}

// ---- Filters ----

TEST_F(GraphTest, AFilterStandsBetweenGuestsAndTheDiskUntilItIsRemoved) {
  Node* disk = AddImage("disk0");
  Edge* guest = Use(disk, kGuest);
  Edge* job = Use(disk, kReader, /*gated=*/false, "block job 'j'");
  Node* filter = AddFilter("filter", disk);
  {
    const auto ports = graph.PortsAbove({disk});
    EXPECT_THAT(ports, ElementsAre(guest->port()));
    Quiesce quiesce(ports);
    ASSERT_TRUE(graph.InsertFilter(filter, disk).ok());
  }
  EXPECT_EQ(guest->child(), filter);
  EXPECT_EQ(job->child(), disk);
  EXPECT_THAT(filter->parents(), ElementsAre(guest));
  ASSERT_TRUE(disk->bitmaps().Add({.name = "b"}).ok());
  ASSERT_TRUE(guest->port()->Write(0, Filled(1, 1)).ok());
  EXPECT_GT(disk->bitmaps().List()[0].count_bytes, 0);
  ExpectRefused(Delete("filter"), Reason::kNodeBusy);
  ExpectRefused(Delete("disk0"), Reason::kNodeBusy);
  {
    Quiesce quiesce(graph.PortsAbove({filter}));
    ASSERT_TRUE(graph.RemoveFilter(filter).ok());
  }
  EXPECT_EQ(guest->child(), disk);
  RemovedNodes removed = graph.RemoveNode(filter);
  ASSERT_TRUE(removed.Close().ok());
  graph.Unlink(&removed);
  EXPECT_TRUE(guest->port()->Flush().ok());
  graph.Detach(guest);
  graph.Detach(job);
  EXPECT_TRUE(Delete("disk0").ok());
}

TEST_F(GraphTest, ASecondFilterGoesBelowTheFirst) {
  Node* disk = AddFile("disk0");
  Edge* guest = Use(disk, kGuest);
  Node* first = AddFilter("first", disk);
  {
    Quiesce quiesce(graph.PortsAbove({disk}));
    ASSERT_TRUE(graph.InsertFilter(first, disk).ok());
  }
  Node* second = AddFilter("second", disk);
  {
    Quiesce quiesce(graph.PortsAbove({disk}));
    ASSERT_TRUE(graph.InsertFilter(second, disk).ok());
  }
  EXPECT_EQ(first->filtered(), second);
  EXPECT_EQ(second->filtered(), disk);
  EXPECT_EQ(first->WithoutFilters(), disk);
  // The first backup ends before the second.
  {
    Quiesce quiesce(graph.PortsAbove({first}));
    ASSERT_TRUE(graph.RemoveFilter(first).ok());
  }
  EXPECT_EQ(guest->child(), second);
  EXPECT_TRUE(guest->port()->Write(0, Filled(1, 1)).ok());
}

TEST_F(GraphTest, RemovingAFilterGivesAllItsUsersBack) {
  Node* disk = AddFile("disk0");
  std::vector<Edge*> users;
  for (int i = 0; i < 4; ++i) users.push_back(Use(disk, kReader));
  Node* filter = AddFilter("filter", disk);
  Quiesce quiesce(graph.PortsAbove({disk}));
  ASSERT_TRUE(graph.InsertFilter(filter, disk).ok());
  EXPECT_EQ(filter->parents().size(), 4);
  ASSERT_TRUE(graph.RemoveFilter(filter).ok());
  EXPECT_TRUE(filter->parents().empty());
  for (Edge* user : users) EXPECT_EQ(user->child(), disk);
}

TEST_F(GraphTest, AFilterThatWritersForbidIsNotInserted) {
  Node* disk = AddFile("disk0");
  Edge* guest = Use(disk, kGuest);
  Edge* writing_job = Use(disk, {kPermissionWrite, kPermissionAll}, false, "block job 'commit0'");
  Node* filter = AddFilter("filter", disk);
  Quiesce quiesce(graph.PortsAbove({disk}));
  ExpectRefused(graph.InsertFilter(filter, disk), Reason::kPermissionConflict, "commit0");
  EXPECT_EQ(guest->child(), disk);
  EXPECT_TRUE(filter->parents().empty());
  EXPECT_EQ(writing_job->child(), disk);
}

TEST_F(GraphTest, ATargetOverItsSourceDoesNotMakeACycle) {
  // Fleecing: the filter's own target shows the source where it holds nothing itself.
  Node* disk = AddImage("disk0");
  Edge* guest = Use(disk, kGuest);
  Node* fleece = AddImage("fleece", disk);
  Edge* source = Use(disk, {}, true, "block job 'j'");
  Edge* target = Use(fleece, {kPermissionWrite, kPermissionAll}, true, "block job 'j'");
  Node* filter = *graph.AddNode(
      {.name = "filter",
       .driver =
           std::make_shared<CopyBeforeWriteDriver>(source->port(), std::make_shared<NoCapture>()),
       .ownership = Ownership::kEngine,
       .children = {{source, kRoleFile, ChildPolicy::kCopyBeforeWrite}, {target, kRoleTarget}}});
  Quiesce quiesce(graph.PortsAbove({disk}));
  ASSERT_TRUE(graph.InsertFilter(filter, disk).ok());
  EXPECT_EQ(guest->child(), filter);
  EXPECT_EQ(fleece->backing(), disk);
}

TEST_F(GraphTest, AnOverlayOfTheSourceSeesItThroughTheFilter) {
  // Fleecing with the job itself as the target's user.
  Node* disk = AddImage("disk0");
  Edge* guest = Use(disk, kGuest);
  Node* fleece = AddImage("fleece", disk);
  Use(fleece, {kPermissionWrite, kPermissionAll}, /*gated=*/false, "block job 'j'");
  Edge* reader = Use(fleece, kReader, true, "block export 'fleece'");
  Node* filter = AddFilter("filter", disk);
  {
    const auto ports = graph.PortsAbove({disk});
    EXPECT_THAT(ports, testing::UnorderedElementsAre(guest->port(), reader->port()));
    Quiesce quiesce(ports);
    ASSERT_TRUE(graph.InsertFilter(filter, disk).ok());
  }
  EXPECT_EQ(fleece->backing(), filter);
  EXPECT_EQ(fleece->backing_depth(), 1);
  {
    Quiesce quiesce(graph.PortsAbove({disk}));
    ASSERT_TRUE(graph.RemoveFilter(filter).ok());
  }
  EXPECT_EQ(fleece->backing(), disk);
}

TEST_F(GraphTest, PortsAboveAreThoseOfAllUsersHoweverFarUp) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  Edge* guest = Use(top, kGuest);
  Edge* reader = Use(base, kReader, true, "block export 'r'");
  Use(base, kReader, /*gated=*/false, "block job 'j'");
  Node* other = AddFile("other");
  Edge* elsewhere = Use(other);
  EXPECT_THAT(graph.PortsAbove({base}),
              testing::UnorderedElementsAre(guest->port(), reader->port()));
  EXPECT_THAT(graph.PortsAbove({top}), ElementsAre(guest->port()));
  EXPECT_THAT(graph.PortsAbove({base, top, other}),
              testing::UnorderedElementsAre(guest->port(), reader->port(), elsewhere->port()));
}

// ---- Resize ----

TEST_F(GraphTest, AFreeDiskIsResizedAndItsBitmapsFollow) {
  Node* disk = AddImage("disk0");
  ASSERT_TRUE(disk->bitmaps().Add({.name = "b"}).ok());
  auto edge = graph.BeginResize(disk);
  ASSERT_TRUE(edge.ok()) << edge.status();
  ASSERT_TRUE((*edge)->port()->Resize(2 * kDiskBytes).ok());
  graph.Detach(*edge);
  EXPECT_EQ(disk->storage()->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ((*disk->bitmaps().Find("b"))->bits()->size_bytes(), 2 * kDiskBytes);
}

TEST_F(GraphTest, WhoeverCountsOnTheSizeKeepsItFromBeingChanged) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  ExpectRefused(graph.BeginResize(base).status(), Reason::kNodeBusy, "node 'top'");
  Edge* guest = Use(top, kGuest);
  ExpectRefused(graph.BeginResize(top).status(), Reason::kPermissionConflict, "'resize'");
  graph.Detach(guest);
  Node* filter = AddFilter("filter", top);
  Use(filter, kReader);
  ExpectRefused(graph.BeginResize(top).status(), Reason::kPermissionConflict, "node 'filter'");
  graph.Block(top, Operation::kResize, "in use by block job 'j' (backup)");
  ExpectRefused(graph.BeginResize(top).status(), Reason::kNodeBusy, "block job 'j'");
  Node* read_only = AddImage("ro", nullptr, {.read_only = true});
  ExpectRefused(graph.BeginResize(read_only).status(), Reason::kNodeReadOnly, "'ro'");
}

TEST_F(GraphTest, AnInconsistentBitmapForbidsResize) {
  Node* disk = *graph.AddNode(
      {.name = "disk0",
       .driver = NewDriver(),
       .bitmaps = {{"b", true, true, std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536)}}});
  ExpectRefused(graph.BeginResize(disk).status(), Reason::kBitmapInconsistent, "'b'");
  EXPECT_TRUE(disk->parents().empty());
}

// ---- Bitmaps and chains ----

TEST_F(GraphTest, AWriteToAnOverlayDirtiesOnlyTheOverlay) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  ASSERT_TRUE(base->bitmaps().Add({.name = "b"}).ok());
  ASSERT_TRUE(top->bitmaps().Add({.name = "b"}).ok());
  Edge* guest = Use(top, kGuest);
  ASSERT_TRUE(guest->port()->Write(0, Filled(1, 1)).ok());
  EXPECT_EQ(base->bitmaps().List()[0].count_bytes, 0);
  EXPECT_GT(top->bitmaps().List()[0].count_bytes, 0);
}

}  // namespace
}  // namespace tidemark::graph
