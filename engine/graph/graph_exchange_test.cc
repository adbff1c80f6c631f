// Users led from one node to another, nodes exchanged under their users, and the ports to close for
// it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "absl/algorithm/container.h"
#include "engine/graph/graph_fixture.h"
#include "engine/graph/limits.h"
#include "engine/graph/quiesce.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionWrite;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

bool Every(const Edge&) { return true; }

class GraphExchangeTest : public GraphTest {
 protected:
  // What the node's users read at the beginning of the disk.
  static char FirstByte(storage::Storage& disk) {
    std::byte byte{'?'};
    EXPECT_TRUE(disk.Read(0, {&byte, 1}).ok());
    return static_cast<char>(byte);
  }
  // A driver over a disk that begins with `byte`.
  std::shared_ptr<FakeDriver> DriverOver(char byte, uint64_t size_bytes = kDiskBytes) {
    auto disk = std::make_shared<storage::MemoryStorage>(size_bytes);
    EXPECT_TRUE(disk->Write(0, Filled(1, byte)).ok());
    auto driver = std::make_shared<FakeDriver>(std::move(disk), "other");
    driver->close_clock = close_clock;
    driver->stores_bitmaps = true;
    drivers.push_back(driver);
    return driver;
  }
  absl::StatusOr<Change> Exchange(Node* node, NodeBody body) {
    Quiesce quiesce(graph.AllPortsAbove({node}));
    return graph.Exchange(node, std::move(body));
  }
  static ChildSpec Kept(Node* node, absl::string_view role, ChildPolicy policy) {
    for (Edge* edge : node->children()) {
      if (edge->role() == role) return {edge, std::string(role), policy};
    }
    ADD_FAILURE() << node->name() << " has no " << role;
    return {};
  }
};

// ---- Replace ----

TEST_F(GraphExchangeTest, UsersGoOnAtAnotherNode) {
  Node* from = AddFile("from");
  Node* to = AddFile("to");
  Edge* guest = Use(from, kGuest);
  Edge* job = Use(from, kReader, /*gated=*/false, "block job 'j'");
  Node* overlay = AddImage("overlay", from);
  {
    Quiesce quiesce(graph.PortsAbove({from}));
    ASSERT_TRUE(
        graph
            .Replace(from, to,
                     [&](const Edge& edge) { return edge.parent() != nullptr || edge.gated(); })
            .ok());
  }
  EXPECT_EQ(guest->child(), to);
  EXPECT_EQ(overlay->backing(), to);
  EXPECT_EQ(job->child(), from) << "was not to be moved";
  ASSERT_TRUE(guest->port()->Write(0, Filled(1, 'n')).ok());
  EXPECT_EQ(FirstByte(*DriverOf(to).storage()), 'n');
  EXPECT_EQ(FirstByte(*DriverOf(from).storage()), 0);
  EXPECT_NE(DriverOf(to).permissions.used & kPermissionWrite, 0u);
  EXPECT_EQ(DriverOf(from).permissions.used & kPermissionWrite, 0u);
}

TEST_F(GraphExchangeTest, WhatOneOfTheUsersMayNotDoThereMovesNone) {
  Node* from = AddFile("from");
  Node* to = AddFile("to", {.read_only = true});
  Edge* reader = Use(from, kReader);
  Edge* guest = Use(from, kGuest);
  Quiesce quiesce(graph.PortsAbove({from}));
  ExpectRefused(graph.Replace(from, to, Every), Reason::kNodeReadOnly, "'to'");
  EXPECT_THAT(from->parents(), UnorderedElementsAre(reader, guest));
  EXPECT_THAT(to->parents(), IsEmpty());
  EXPECT_NE(DriverOf(from).permissions.used & kPermissionWrite, 0u);
}

TEST_F(GraphExchangeTest, ANodeIsNotPutBelowItself) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  Quiesce quiesce(graph.PortsAbove({base}));
  ExpectRefused(graph.Replace(base, top, Every), Reason::kInvalidCombination, "'top'");
  EXPECT_EQ(top->backing(), base);
  // Others of its users can: a snapshot's overlay takes the place of what it is above of.
  Edge* guest = Use(base, kReader);
  Quiesce guests({guest->port()});
  EXPECT_TRUE(
      graph.Replace(base, top, [](const Edge& edge) { return edge.parent() == nullptr; }).ok());
  EXPECT_EQ(guest->child(), top);
}

TEST_F(GraphExchangeTest, ChainsDoNotGrowBeyondTheirLimit) {
  Node* shallow = AddFile("shallow");
  Node* deep = AddFile("deep");
  // Two chains that are as long as one may be when they are put on each other, and one more.
  Node* bottom = AddImage("bottom", shallow);
  Node* top = bottom;
  while (top->depth() < kGraphDepthMax / 2 + 1) top = AddImage("", top);
  while (deep->depth() < kGraphDepthMax / 2) deep = AddImage("", deep);
  const int depth_before = top->depth();
  ExpectRefused(graph.Replace(shallow, AddImage("", deep), Every), Reason::kLimitReached);
  EXPECT_EQ(top->depth(), depth_before);
  EXPECT_EQ(bottom->backing(), shallow);
  EXPECT_TRUE(graph.Replace(shallow, deep, Every).ok());
  EXPECT_EQ(top->depth(), kGraphDepthMax);
  EXPECT_TRUE(graph.Replace(deep, shallow, Every).ok());
  EXPECT_EQ(top->depth(), depth_before);
}

// ---- All ports ----

TEST_F(GraphExchangeTest, AllPortsLeaveNoWayToTheNode) {
  Node* base = AddImage("base");
  Node* top = AddImage("top", base);
  Edge* guest = Use(top, kGuest);
  Edge* job = Use(base, kReader, /*gated=*/false, "block job 'j'");
  // A job reads below its own filter, through the filter's edge.
  Node* filter = AddFilter("filter", base);
  Edge* source = filter->children()[0];
  Edge* backing = Kept(top, kRoleBacking, ChildPolicy::kBacking).edge;
  const auto ports = graph.AllPortsAbove({base});
  EXPECT_THAT(ports,
              UnorderedElementsAre(guest->port(), job->port(), source->port(), backing->port()));
  // Users first: only then nobody can be on the way from one node to another.
  const auto place = [&](Edge* edge) { return absl::c_find(ports, edge->port()) - ports.begin(); };
  EXPECT_LT(std::max(place(guest), place(job)), std::min(place(source), place(backing)));
  EXPECT_THAT(graph.PortsAbove({base}), ElementsAre(guest->port()));
  Quiesce quiesce(ports);
  for (const auto& port : ports) EXPECT_TRUE(port->closed());
}

// ---- Exchange ----

TEST_F(GraphExchangeTest, ANodeIsExchangedUnderItsUsers) {
  Node* disk = AddFile("disk0");
  Edge* guest = Use(disk, kGuest);
  Node* overlay = AddImage("overlay", disk);
  ASSERT_TRUE(disk->bitmaps().Add({.name = "b", .persistent = true}).ok());
  const auto bits = (*disk->bitmaps().Find("b"))->bits();
  bits->Set({0, 1});
  std::shared_ptr<FakeDriver> before = drivers[0];
  auto after = DriverOver('n', 2 * kDiskBytes);
  auto change = Exchange(disk, {.driver = after, .options = {.cache_no_flush = true}});
  ASSERT_TRUE(change.ok()) << change.status();
  change->commit();

  EXPECT_EQ(&disk->driver(), after.get());
  EXPECT_TRUE(disk->options().cache_no_flush);
  EXPECT_EQ(guest->child(), disk);
  EXPECT_EQ(FirstByte(*guest->port()), 'n');
  EXPECT_EQ(FirstByte(*Kept(overlay, kRoleBacking, ChildPolicy::kBacking).edge->port()), 'n');
  EXPECT_NE(after->permissions.used & kPermissionWrite, 0u);
  // The bitmap is the same, of the size of the new disk, and goes on recording.
  EXPECT_EQ((*disk->bitmaps().Find("b"))->bits(), bits);
  EXPECT_EQ(bits->size_bytes(), 2 * kDiskBytes);
  ASSERT_TRUE(guest->port()->Write(kDiskBytes, Filled(1, 1)).ok());
  EXPECT_TRUE(bits->IsDirty(0));
  EXPECT_TRUE(bits->IsDirty(kDiskBytes));
  graph.Detach(guest);
  ASSERT_TRUE(Delete("overlay").ok());
  ASSERT_TRUE(Delete("disk0").ok());
  EXPECT_EQ(after->stored.size(), 1u);
  EXPECT_THAT(before->stored, IsEmpty());
}

TEST_F(GraphExchangeTest, AnExchangeIsUndone) {
  Node* file = AddFile("file0");
  auto disk = TryAddImage("disk0", file);
  ASSERT_TRUE(disk.ok());
  Edge* guest = Use(*disk, kGuest);
  ASSERT_TRUE(guest->port()->Write(0, Filled(1, 'o')).ok());
  ASSERT_TRUE((*disk)->bitmaps().Add({.name = "b"}).ok());
  const Permissions file_permissions = file->permissions();
  Node* other_file = AddFile("file1");
  Edge* other = Use(other_file, {}, false, "opening");
  auto change = Exchange(*disk, {.driver = DriverOver('n', kDiskBytes / 2),
                                 .children = {{other, kRoleFile, ChildPolicy::kFormatFile}}});
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(FirstByte(*guest->port()), 'n');
  EXPECT_EQ((*disk)->ChildInRole(kRoleFile), other_file);
  EXPECT_EQ(file->permissions(), file_permissions) << "kept until it is certain";
  ExpectRefused(TryAddImage("thief", file).status(), Reason::kPermissionConflict);
  {
    Quiesce quiesce(graph.AllPortsAbove({*disk}));
    change->undo();
  }
  EXPECT_EQ(FirstByte(*guest->port()), 'o');
  EXPECT_EQ((*disk)->ChildInRole(kRoleFile), file);
  EXPECT_EQ(file->permissions(), file_permissions);
  EXPECT_EQ(other->parent(), nullptr);
  EXPECT_EQ(other_file->permissions().used, storage::kPermissionNone);
  EXPECT_EQ((*(*disk)->bitmaps().Find("b"))->bits()->size_bytes(), kDiskBytes);
  graph.Detach(other);
  EXPECT_TRUE(Delete("file1").ok());
  ExpectRefused(Delete("file0"), Reason::kNodeBusy, "disk0");
}

TEST_F(GraphExchangeTest, WhatAnExchangeLetsGoIsFreeAfterTheCommit) {
  Node* file = AddFile("file0");
  auto disk = TryAddImage("disk0", file);
  ASSERT_TRUE(disk.ok());
  auto change = Exchange(*disk, {.driver = DriverOver('n')});
  ASSERT_TRUE(change.ok()) << change.status();
  ExpectRefused(Delete("file0"), Reason::kNodeBusy, "disk0");
  change->commit();
  EXPECT_TRUE(Delete("file0").ok());
}

TEST_F(GraphExchangeTest, ARefusedExchangeChangesNothing) {
  Node* disk = AddImage("disk0", AddImage("base"));
  Edge* guest = Use(disk, kGuest);
  const std::vector<Edge*> children = disk->children();
  Driver* const driver = &disk->driver();
  const auto expect_as_before = [&] {
    EXPECT_EQ(disk->children(), children);
    EXPECT_EQ(&disk->driver(), driver);
    EXPECT_FALSE(disk->read_only());
    EXPECT_EQ(FirstByte(*guest->port()), 0);
    EXPECT_NE(DriverOf(disk).permissions.used & kPermissionWrite, 0u);
    for (Edge* edge : children) EXPECT_EQ(edge->parent(), disk);
  };
  const std::vector<ChildSpec> same = {Kept(disk, kRoleFile, ChildPolicy::kFormatFile),
                                       Kept(disk, kRoleBacking, ChildPolicy::kBacking)};
  // Its guest writes.
  ExpectRefused(
      Exchange(disk, {.driver = DriverOver('n'), .options = {.read_only = true}, .children = same})
          .status(),
      Reason::kNodeReadOnly, "disk0");
  expect_as_before();
  // Another process has the file.
  auto locked = DriverOver('n');
  locked->refused_permissions = kPermissionWrite;
  ExpectRefused(Exchange(disk, {.driver = locked, .children = same}).status(),
                Reason::kImageLocked);
  expect_as_before();
  // A node that is above it.
  Node* top = AddImage("top", disk);
  Edge* loop = Use(top, {}, false, "opening");
  ExpectRefused(Exchange(disk, {.driver = DriverOver('n'),
                                .children = {{loop, kRoleBacking, ChildPolicy::kBacking}}})
                    .status(),
                Reason::kInvalidCombination, "'top'");
  expect_as_before();
  EXPECT_EQ(loop->parent(), nullptr);
  EXPECT_EQ(loop->role(), kRoleRoot);
}

TEST_F(GraphExchangeTest, ANodeTurnsReadOnlyAndBackWithItsBitmaps) {
  Node* disk = AddFile("disk0");
  Edge* reader = Use(disk, kReader);
  ASSERT_TRUE(disk->bitmaps().Add({.name = "b", .persistent = true}).ok());
  auto change = Exchange(disk, {.driver = DriverOver('r'), .options = {.read_only = true}});
  ASSERT_TRUE(change.ok());
  change->commit();
  EXPECT_TRUE(disk->read_only());
  ExpectRefused(disk->bitmaps().Clear("b").status(), Reason::kBitmapReadOnly);
  ExpectRefused(reader->port()->Write(0, Filled(1, 1)), Reason::kNodeReadOnly);
  change = Exchange(disk, {.driver = DriverOver('w')});
  ASSERT_TRUE(change.ok());
  change->commit();
  EXPECT_TRUE(disk->bitmaps().Clear("b").ok());
  EXPECT_TRUE(reader->port()->Write(0, Filled(1, 1)).ok());
}

// ---- The backing disk ----

TEST_F(GraphExchangeTest, ImagesAreTakenOutOfAChainWhoseUsersGoOn) {
  Node* bottom = AddImage("bottom");
  Node* middle = AddImage("middle");
  Node* top = AddImage("top");
  const auto set = [&](Node* node, Node* below) {
    Edge* edge = Use(below, kReader, false, "opening");
    Quiesce quiesce(graph.AllPortsAbove({node}));
    auto change = graph.SetBacking(node, edge);
    ASSERT_TRUE(change.ok()) << change.status();
    change->commit();
  };
  set(middle, bottom);
  set(top, middle);
  Edge* guest = Use(top, kGuest);
  const std::shared_ptr<Port> between = Graph::BackingPort(*top);
  const auto shorten = [&](Node* to) {
    // The guest's gate stays open.
    Quiesce quiesce({between});
    return graph.ShortenBacking(top, to);
  };
  ASSERT_TRUE(shorten(bottom).ok());
  EXPECT_FALSE(guest->port()->closed());
  EXPECT_EQ(top->backing(), bottom);
  EXPECT_EQ(top->backing_depth(), 1);
  EXPECT_TRUE(Delete("middle").ok());
  ExpectRefused(Delete("bottom"), Reason::kNodeBusy, "backing");
  // To what it is already.
  ASSERT_TRUE(shorten(bottom).ok());
  // Nothing is below from now on, and what is asked there all the same is a disk of no bytes.
  ASSERT_TRUE(shorten(nullptr).ok());
  EXPECT_EQ(top->backing(), nullptr);
  EXPECT_EQ(between->size_bytes(), 0u);
  EXPECT_EQ(Graph::BackingPort(*top), nullptr);
  EXPECT_TRUE(Delete("bottom").ok());
}

TEST_F(GraphExchangeTest, ABackingDiskComesGoesAndIsUndoneUnderAnOpenImage) {
  Node* base = AddImage("base");
  Node* other = AddImage("other");
  Node* top = AddImage("top");
  Edge* guest = Use(top, kGuest);
  const auto set = [&](Edge* backing) {
    Quiesce quiesce(graph.AllPortsAbove({top}));
    return graph.SetBacking(top, backing);
  };
  Edge* edge = Use(base, kReader, false, "opening");
  auto change = set(edge);
  ASSERT_TRUE(change.ok()) << change.status();
  change->commit();
  EXPECT_EQ(top->backing(), base);
  EXPECT_EQ(top->backing_depth(), 1);
  EXPECT_EQ(DriverOf(top).backing, edge->port());
  ExpectRefused(Delete("base"), Reason::kNodeBusy, "backing");

  Edge* second = Use(other, kReader, false, "opening");
  change = set(second);
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(top->backing(), other);
  EXPECT_EQ(DriverOf(top).backing, second->port());
  {
    Quiesce quiesce(graph.AllPortsAbove({top}));
    change->undo();
  }
  EXPECT_EQ(top->backing(), base);
  EXPECT_EQ(DriverOf(top).backing, edge->port());
  graph.Detach(second);

  Edge* loop = Use(top, {}, false, "opening");
  ExpectRefused(set(loop).status(), Reason::kInvalidCombination, "'top'");
  EXPECT_EQ(top->backing(), base);
  graph.Detach(loop);

  change = set(nullptr);
  ASSERT_TRUE(change.ok()) << change.status();
  change->commit();
  EXPECT_EQ(top->backing(), nullptr);
  EXPECT_EQ(DriverOf(top).backing, nullptr);
  EXPECT_TRUE(Delete("base").ok());
  EXPECT_TRUE(guest->port()->Flush().ok());
}

// ---- Walks ----

TEST_F(GraphExchangeTest, AWalkAsksEachNodeOnce) {
  // Two ways from every node to the next: 2^40 from the top to the bottom.
  Node* node = AddFile("bottom", {.read_only = true});
  Node* const bottom = node;
  for (int i = 0; i < 40; ++i) {
    auto next = TryAddImage("", node, node, {.read_only = true});
    ASSERT_TRUE(next.ok()) << next.status();
    node = *next;
  }
  EXPECT_TRUE(node->Reaches(bottom));
  EXPECT_FALSE(bottom->Reaches(node));
  EXPECT_FALSE(node->Reaches(AddFile("elsewhere")));
}

TEST_F(GraphExchangeTest, AFilterByItsDriverIsNotTheFilterOfAJob) {
  Node* disk = AddFile("disk0");
  Edge* edge = Use(disk, {}, true, "opening");
  auto node = graph.AddNode({.name = "raw0",
                             .driver = std::make_shared<CopyBeforeWriteDriver>(
                                 edge->port(), std::make_shared<NoCapture>()),
                             .children = {{edge, kRoleFile, ChildPolicy::kFilter}}});
  ASSERT_TRUE(node.ok());
  EXPECT_EQ((*node)->filtered(), disk);
  EXPECT_FALSE((*node)->is_job_filter());
  EXPECT_EQ((*node)->WithoutJobFilters(), *node);
  Node* filter = AddFilter("filter", *node);
  EXPECT_TRUE(filter->is_job_filter());
  EXPECT_EQ(filter->WithoutJobFilters(), *node);
  EXPECT_EQ(disk->filtered(), nullptr);
}

}  // namespace
}  // namespace tidemark::graph
