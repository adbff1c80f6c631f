#include "engine/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/graph_fixture.h"
#include "engine/graph/limits.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionConsistentRead;
using storage::kPermissionNone;
using storage::kPermissionWrite;
using testing::ElementsAre;
using testing::HasSubstr;

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
  EXPECT_EQ(filter->WithoutJobFilters(), middle);
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
  // The limit, and what it would have been.
  ExpectRefused(
      graph.AddNode({.name = "deep", .driver = NewDriver(), .children = {{edge, "file"}}}).status(),
      Reason::kLimitReached,
      absl::StrCat("'deep' would have ", kGraphDepthMax + 1, " nodes below one another; at most ",
                   kGraphDepthMax));
  EXPECT_EQ(edge->parent(), nullptr);
}

TEST_F(GraphTest, WhatIsHiddenIsFoundByNobodyAndItsNameIsTaken) {
  Node* const file = *graph.AddNode(
      {.name = "f", .driver = NewDriver(), .ownership = Ownership::kEngine, .hidden = true});
  EXPECT_TRUE(HasReason(graph.Find("f").status(), Reason::kNodeNotFound));
  EXPECT_FALSE(graph.CheckNewName("f").ok());
  // Nobody can have begun to use it: whoever opened it may still take it back.
  graph.TakeBack(file);
  EXPECT_TRUE(graph.CheckNewName("f").ok());
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

// ---- Parts ----

std::vector<std::string> NamesOf(const std::vector<const Node*>& nodes) {
  std::vector<std::string> names;
  for (const Node* node : nodes) names.push_back(node->name());
  return names;
}

TEST_F(GraphTest, APartIsAllThatIsConnectedByNodes) {
  Node* base = AddFile("base");
  Node* top = AddImage("top", base);
  const std::string file = top->ChildInRole(kRoleFile)->name();
  AddImage("other");
  EXPECT_THAT(NamesOf(graph.PartOf("base")), testing::UnorderedElementsAre("base", "top", file));
  EXPECT_THAT(NamesOf(graph.PartOf(file)), testing::UnorderedElementsAre("base", "top", file));
  EXPECT_EQ(graph.PartOf("other").size(), 2u);
  EXPECT_TRUE(graph.PartOf("nobody").empty());
  // A user is no node: it connects nothing.
  Edge* first = Use(base, kReader);
  Edge* second = Use(*graph.Find("other"), kReader);
  EXPECT_EQ(graph.PartOf("base").size(), 3u);
  graph.Detach(first);
  graph.Detach(second);
}

TEST_F(GraphTest, ANodeThatIsBeingClosedBelongsToItsPartUntilItIsUnlinked) {
  Node* base = AddFile("base");
  AddImage("top", base);
  auto removed = graph.DeleteNode("top");
  ASSERT_TRUE(removed.ok());
  EXPECT_FALSE(graph.Find("top").ok());
  EXPECT_EQ(graph.PartOf("top").size(), 3u);
  EXPECT_EQ(graph.PartOf("base").size(), 3u);
  EXPECT_EQ(graph.AllNodes().size(), 3u);
  EXPECT_TRUE(removed->Close().ok());
  graph.Unlink(&*removed);
  EXPECT_TRUE(graph.PartOf("top").empty());
  EXPECT_EQ(graph.PartOf("base").size(), 1u);
}

TEST_F(GraphTest, OnePartIsTakenOutWithItsUsersAndTheOthersStay) {
  Node* base = AddFile("base");
  Node* top = AddImage("top", base);
  AddImage("other");
  Use(top, kGuest);
  RemovedNodes removed = graph.TakePart(NamesOf(graph.PartOf("base")));
  EXPECT_EQ(Names().size(), 2u);
  EXPECT_TRUE(graph.Find("other").ok());
  EXPECT_TRUE(removed.Close().ok());
  graph.Unlink(&removed);
}

// ---- Image locks ----

TEST_F(GraphTest, WhatDriversAreToldIsAppliedAfterwards) {
  Node* node = AddFile("f");
  graph.TakeLockChanges();
  EXPECT_TRUE(graph.TakeLockChanges().empty());
  Edge* edge = Use(node, kGuest);
  LockChanges locks = graph.TakeLockChanges();
  EXPECT_EQ(DriverOf(node).applied.used, kPermissionNone);
  EXPECT_TRUE(locks.Apply().ok());
  EXPECT_EQ(DriverOf(node).applied, DriverOf(node).permissions);
  EXPECT_EQ(DriverOf(node).applied.used, kGuest.used);
  graph.Detach(edge);
  DriverOf(node).apply_status = absl::UnavailableError("somebody has the image");
  EXPECT_THAT(graph.TakeLockChanges().Apply().ToString(), HasSubstr("node 'f'"));
}

TEST_F(GraphTest, ANodeThatIsTakenBackLeavesItsEdgesAsTheyWere) {
  Node* file = AddFile("file");
  Edge* edge = Use(file, kReader);
  const Permissions before = file->permissions();
  Node* image = *graph.AddNode({.name = "image",
                                .driver = NewDriver(),
                                .children = {{edge, kRoleFile, ChildPolicy::kFormatFile}}});
  EXPECT_NE(file->permissions(), before);
  graph.TakeBack(image);
  EXPECT_EQ(file->permissions(), before);
  EXPECT_FALSE(graph.Find("image").ok());
  EXPECT_EQ(edge->parent(), nullptr);
  EXPECT_EQ(edge->User(), "block export 'e'");
  graph.Detach(edge);
}

// ---- Resize ----

TEST_F(GraphTest, AFreeDiskIsResizedAndItsBitmapsFollow) {
  Node* disk = AddImage("disk0");
  ASSERT_TRUE(disk->bitmaps().Add({.name = "b"}).ok());
  auto edge = graph.BeginResize(disk, 2 * kDiskBytes);
  ASSERT_TRUE(edge.ok()) << edge.status();
  ASSERT_TRUE((*edge)->port()->Resize(2 * kDiskBytes).ok());
  graph.EndResize(*edge);
  EXPECT_EQ(disk->storage()->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ((*disk->bitmaps().Find("b"))->bits()->size_bytes(), 2 * kDiskBytes);
}

TEST_F(GraphTest, WhoeverCountsOnTheSizeKeepsItFromBeingChanged) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  ExpectRefused(graph.BeginResize(base, 2 * kDiskBytes).status(), Reason::kNodeBusy, "node 'top'");
  Edge* guest = Use(top, kGuest);
  ExpectRefused(graph.BeginResize(top, 2 * kDiskBytes).status(), Reason::kPermissionConflict,
                "'resize'");
  graph.Detach(guest);
  Node* filter = AddFilter("filter", top);
  Use(filter, kReader);
  ExpectRefused(graph.BeginResize(top, 2 * kDiskBytes).status(), Reason::kPermissionConflict,
                "node 'filter'");
  graph.Block(top, Operation::kResize, "in use by block job 'j' (backup)");
  ExpectRefused(graph.BeginResize(top, 2 * kDiskBytes).status(), Reason::kNodeBusy,
                "block job 'j'");
  Node* read_only = AddImage("ro", nullptr, {.read_only = true});
  ExpectRefused(graph.BeginResize(read_only, 2 * kDiskBytes).status(), Reason::kNodeReadOnly,
                "'ro'");
}

TEST_F(GraphTest, AnInconsistentBitmapForbidsResize) {
  Node* disk = *graph.AddNode(
      {.name = "disk0",
       .driver = NewDriver(),
       .bitmaps = {{"b", true, true, std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536)}}});
  ExpectRefused(graph.BeginResize(disk, 2 * kDiskBytes).status(), Reason::kBitmapInconsistent,
                "'b'");
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
