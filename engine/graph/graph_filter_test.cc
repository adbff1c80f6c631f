// Filters put in and taken out, and the ports to close meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/graph_fixture.h"
#include "engine/graph/quiesce.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionWrite;
using testing::ElementsAre;

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
  EXPECT_EQ(first->WithoutJobFilters(), disk);
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

}  // namespace
}  // namespace tidemark::graph
