// Nodes that change while they are open, objects that they lean on, and what is told about them.
#include <algorithm>
#include <map>

#include "tests/conformance/some_engines.h"

namespace tidemark::test {
namespace {

class NodeChangeScenarios : public SomeEngines {
 protected:
  static v1::BlockdevReopenRequest Reopen(const v1::BlockdevOptions& options) {
    v1::BlockdevReopenRequest request;
    *request.add_options() = options;
    return request;
  }
  // disk0 over the node file0, as a reopen names its children.
  v1::BlockdevOptions OverNamedFile(bool read_only) {
    v1::BlockdevOptions options;
    options.set_node_name("disk0");
    options.set_read_only(read_only);
    options.mutable_qcow2()->mutable_file()->set_reference("file0");
    return options;
  }
  void CreateDiskOverNamedFile() {
    Image::Create(operate().FileOf("disk0"), kDiskBytes);
    operate().Do(Add(FileOptions(operate().FileOf("disk0"), "file0")));
    operate().Do(Add(OverNamedFile(false)));
  }
};

ON_EVERY_BACKEND(NodeChangeScenarios);

TEST_P(NodeChangeScenarios, ANodeTurnsReadOnlyAndBack) {
  if (!Has(Reopen(OverNamedFile(true)))) return;
  CreateDiskOverNamedFile();
  operate().Do(BitmapAdd("disk0", "b0", absl::nullopt, /*persistent=*/true));
  operate().Do(Reopen(OverNamedFile(true)));
  EXPECT_TRUE(operate().Node("disk0").ro());
  operate().Do(Reopen(OverNamedFile(false)));
  EXPECT_FALSE(operate().Node("disk0").ro());
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").recording());
}

TEST_P(NodeChangeScenarios, AWriterKeepsItsNodeWritable) {
  if (!Has(Reopen(OverNamedFile(true)))) return;
  CreateDiskOverNamedFile();
  guest().Write(1, Clusters(0, 1));
  EXPECT_FALSE(operate().Try(Reopen(OverNamedFile(true))).ok());
  EXPECT_FALSE(operate().Node("disk0").ro());
  guest().Write(2, Clusters(1, 1));
}

// An empty list ends QEMU 10.0: it must not arrive there.
TEST_P(NodeChangeScenarios, AReopenOfNothingIsRefused) {
  ExpectRefused(v1::BlockdevReopenRequest(), v1::ERROR_REASON_INVALID_FIELD, {"options"});
}

TEST_P(NodeChangeScenarios, AWriteBeyondTheThresholdIsToldOnce) {
  const auto watch =
      Parse<v1::BlockSetWriteThresholdRequest>("node_name: 'disk0' write_threshold: 4194304");
  if (!Has(watch)) return;
  operate().CreateDisk("disk0");
  operate().Do(watch);
  EXPECT_EQ(operate().Node("disk0").write_threshold(), 4194304);
  guest().Write(1, {0, kMiB});
  guest().Write(1, {4 * kMiB, 8192});
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_BLOCK_WRITE_THRESHOLD, 1));
  guest().Write(1, {5 * kMiB, 8192});
  EXPECT_EQ(operate().Node("disk0").write_threshold(), 0);
  const auto told = EventsOf(v1::EVENT_KIND_BLOCK_WRITE_THRESHOLD);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].block_write_threshold().node_name(), "disk0");
  EXPECT_EQ(told[0].block_write_threshold().write_threshold(), 4194304u);
  EXPECT_GT(told[0].block_write_threshold().amount_exceeded(), 0u);
  ExpectRefused(Parse<v1::BlockSetWriteThresholdRequest>("node_name: 'no' write_threshold: 1"),
                v1::ERROR_REASON_NODE_NOT_FOUND, {"no"});
}

TEST_P(NodeChangeScenarios, AnInactiveNodeLetsGoOfItsImage) {
  const auto inactivate = Parse<v1::BlockdevSetActiveRequest>("node_name: 'disk0' active: false");
  if (!Has(inactivate)) return;
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0", absl::nullopt, /*persistent=*/true));
  operate().Do(inactivate);
  EXPECT_FALSE(operate().Node("disk0").active());
  EXPECT_EQ(image("disk0").Bitmaps().size(), 1u);
  operate().Do(Parse<v1::BlockdevSetActiveRequest>("node_name: 'disk0' active: true"));
  EXPECT_TRUE(operate().Node("disk0").active());
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").recording());
}

TEST_P(NodeChangeScenarios, AQuorumGainsAndLosesAChild) {
  const auto change = Parse<v1::BlockdevChangeRequest>("parent: 'all' node: 'three'");
  if (!Has(change)) return;
  for (const char* name : {"one", "two", "three"}) {
    operate().Do(Add(NullOptions(name, kDiskBytes)));
  }
  operate().Do(Add(Parse<v1::BlockdevOptions>(
      "node_name: 'all' quorum { vote_threshold: 1 children { reference: 'one' } "
      "children { reference: 'two' } }")));
  operate().Do(change);
  EXPECT_FALSE(operate().Try(Del("three")).ok());
  operate().Do(Parse<v1::BlockdevChangeRequest>("parent: 'all' child: 'children.2'"));
  operate().Do(Del("three"));
}

TEST_P(NodeChangeScenarios, AQuorumTellsWhichChildIsWrongAndWhenNoneIsRight) {
  if (!Has(Parse<v1::BlockdevChangeRequest>("parent: 'most' node: 'one'"))) return;
  constexpr int64_t kBytes = 64 * 1024;
  const std::map<std::string, char> bytes = {
      {"one", 'a'}, {"two", 'a'}, {"odd", 'b'}, {"bad", 'c'}};
  for (const auto& [node, byte] : bytes) {
    WriteFile(folder().File(node), std::string(kBytes, byte));
    operate().Do(Add(FileOptions(folder().File(node), node)));
  }
  operate().Do(Add(NullOptions("target0", kBytes)));
  operate().Do(Add(Parse<v1::BlockdevOptions>(
      "node_name: 'most' quorum { vote_threshold: 2 children { reference: 'one' } "
      "children { reference: 'two' } children { reference: 'odd' } }")));
  BackupOptions read;
  read.job = "read0";
  read.source = "most";
  operate().Do(Backup(read));
  operate().Finish("read0");
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_QUORUM_REPORT_BAD, 1));
  const auto report = EventsOf(v1::EVENT_KIND_QUORUM_REPORT_BAD)[0].quorum_report_bad();
  EXPECT_EQ(report.type(), v1::QUORUM_OP_TYPE_READ);
  EXPECT_EQ(report.node_name(), "odd");
  EXPECT_EQ(report.error(), "") << "it was read, and is another one";
  EXPECT_EQ(report.sector_num(), 0);
  EXPECT_EQ(report.sectors_count(), kBytes / 512);

  operate().Do(Del("most"));
  operate().Do(Add(Parse<v1::BlockdevOptions>(
      "node_name: 'none' quorum { vote_threshold: 2 children { reference: 'one' } "
      "children { reference: 'odd' } children { reference: 'bad' } }")));
  read.job = "read1";
  read.source = "none";
  operate().Do(Backup(read));
  operate().AwaitEnd("read1");
  EXPECT_EQ(operate().Job("read1").outcome(), v1::JOB_OUTCOME_FAILED);
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_QUORUM_FAILURE, 1));
  const auto failure = EventsOf(v1::EVENT_KIND_QUORUM_FAILURE)[0].quorum_failure();
  EXPECT_EQ(failure.reference(), "none");
  EXPECT_EQ(failure.sector_num(), 0);
  EXPECT_EQ(failure.sectors_count(), kBytes / 512);
}

TEST_P(NodeChangeScenarios, ANodeMovesToAThreadAndBack) {
  const auto move =
      Parse<v1::BlockdevSetIothreadRequest>("node_name: 'disk0' iothread { id: 'thread0' }");
  if (!Has(move)) return;
  operate().Do(Parse<v1::ObjectAddRequest>("options { id: 'thread0' iothread { } }"));
  operate().Do(Add(NullOptions("disk0", kDiskBytes)));
  operate().Do(move);
  operate().Do(
      Parse<v1::BlockdevSetIothreadRequest>("node_name: 'disk0' iothread { main_loop { } }"));
  operate().Do(Parse<v1::ObjectDelRequest>("id: 'thread0'"));
}

TEST_P(NodeChangeScenarios, ObjectsComeAndGo) {
  const auto add = Parse<v1::ObjectAddRequest>(
      "options { id: 'group0' throttle_group { limits { iops_total: 100 } } }");
  if (!Has(add)) return;
  operate().Do(add);
  ExpectRefused(add, v1::ERROR_REASON_OBJECT_EXISTS, {"group0"});
  operate().Do(Add(NullOptions("disk0", kDiskBytes)));
  operate().Do(Add(Parse<v1::BlockdevOptions>(
      "node_name: 'slow' throttle { throttle_group: 'group0' file { reference: 'disk0' } }")));
  ExpectRefused(Parse<v1::ObjectDelRequest>("id: 'group0'"), v1::ERROR_REASON_OBJECT_IN_USE,
                {"group0"});
  operate().Do(Del("slow"));
  operate().Do(Parse<v1::ObjectDelRequest>("id: 'group0'"));
  ExpectRefused(Parse<v1::ObjectDelRequest>("id: 'group0'"), v1::ERROR_REASON_OBJECT_NOT_FOUND,
                {"group0"});
}

TEST_P(NodeChangeScenarios, TheGraphIsToldWithItsPermissions) {
  const v1::DebugQueryBlockGraphRequest query;
  if (!Has(query)) return;
  operate().CreateDisk("disk0");
  const auto graph = operate().Do(query).graph();
  const auto is_disk = [](const v1::XDbgBlockGraphNode& node) { return node.name() == "disk0"; };
  EXPECT_TRUE(std::any_of(graph.nodes().begin(), graph.nodes().end(), is_disk));
  ASSERT_GT(graph.edges_size(), 0);
  EXPECT_EQ(graph.edges(0).name(), "file");
  EXPECT_GT(graph.edges(0).perm_size(), 0);
}

TEST_P(NodeChangeScenarios, FiguresOfANodeCountItsRequests) {
  const auto query = Parse<v1::QueryBlockstatsRequest>("query_nodes: true");
  if (!Has(query)) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 4));
  int64_t highest = 0;
  const auto response = operate().Do(query);
  for (const v1::BlockStats& stats : response.stats()) {
    if (stats.node_name() == "disk0") highest = stats.stats().wr_highest_offset();
  }
  EXPECT_EQ(highest, static_cast<int64_t>(4 * kClusterBytes));
  EXPECT_EQ(operate().Do(v1::QueryBlockRequest()).devices_size(), 0) << "there is no guest device";
}

TEST_P(NodeChangeScenarios, AnImageIsAmended) {
  const auto amend =
      Parse<v1::BlockdevAmendRequest>("job_id: 'amend0' node_name: 'disk0' options { qcow2 { } }");
  if (!Has(amend)) return;
  operate().CreateDisk("disk0");
  operate().Do(amend);
  operate().AwaitStatus("amend0", v1::JOB_STATUS_CONCLUDED);
  // Only keys can be amended, and this image has none.
  EXPECT_EQ(operate().QueriedJob("amend0").type(), v1::JOB_TYPE_AMEND);
  operate().Do(OfJob<v1::JobDismissRequest>("amend0"));
  operate().AwaitEnd("amend0");
}

}  // namespace
}  // namespace tidemark::test
