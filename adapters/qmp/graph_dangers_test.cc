#include "adapters/qmp/graph_dangers.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// What differs from 7.2 to 8.0 is the variant `file`.
std::shared_ptr<const Schema> SchemaWith(const std::string& variants) {
  auto schema = Schema::Parse(Json::parse(absl::StrCat(R"([
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
    {"name": "empty", "meta-type": "object", "members": []},
    {"name": "kind", "meta-type": "enum", "values": ["qcow2", "file"]},
    {"name": "specific", "meta-type": "object", "tag": "type",
     "members": [{"name": "type", "type": "kind"}], "variants": [)",
                                                       variants, R"(]},
    {"name": "image", "meta-type": "object",
     "members": [{"name": "format-specific", "type": "specific", "default": null}]},
    {"name": "node", "meta-type": "object", "members": [{"name": "image", "type": "image"}]},
    {"name": "[node]", "meta-type": "array", "element-type": "node"},
    {"name": "query-named-block-nodes", "meta-type": "command", "arg-type": "empty",
     "ret-type": "[node]"}
  ])")));
  EXPECT_TRUE(schema.ok()) << schema.status();
  return *schema;
}
std::shared_ptr<const Schema> Old() { return SchemaWith(R"({"case": "qcow2", "type": "empty"})"); }
std::shared_ptr<const Schema> New() {
  return SchemaWith(R"({"case": "qcow2", "type": "empty"}, {"case": "file", "type": "empty"})");
}

// By `names`, each node's number, which is 10 and its place; edges as "parent child name perm".
struct Graph {
  Json graph = {{"nodes", Json::array()}, {"edges", Json::array()}};
  Json records = Json::array();

  void Add(uint64_t id, const std::string& type, const std::string& name,
           const std::string& driver = "") {
    graph["nodes"].push_back({{"id", id}, {"type", type}, {"name", name}});
    if (!driver.empty()) records.push_back({{"node-name", name}, {"drv", driver}});
  }
  void Edge(uint64_t parent, uint64_t child, const std::string& name,
            const std::string& permission = "consistent-read") {
    graph["edges"].push_back({{"parent", parent},
                              {"child", child},
                              {"name", name},
                              {"perm", Json::array({permission})},
                              {"shared-perm", Json::array()}});
  }
};

// A guest's disk, whose backup by drive-backup is under way, and an image of which nobody writes.
Graph Backup() {
  Graph made;
  made.Add(1, "block-backend", "");
  made.Add(2, "block-job", "job0");
  made.Add(3, "block-driver", "filter0", "copy-before-write");
  made.Add(4, "block-driver", "disk0", "qcow2");
  made.Add(5, "block-driver", "#file4", "file");
  made.Add(6, "block-driver", "#target", "qcow2");
  made.Add(7, "block-driver", "#file6", "file");
  made.Add(8, "block-driver", "top0", "qcow2");
  made.Add(9, "block-driver", "#file8", "file");
  made.Add(10, "block-driver", "#base", "raw");
  made.Edge(1, 3, "root", "write");
  made.Edge(2, 3, "main node");
  made.Edge(2, 6, "target");
  made.Edge(3, 4, "file", "write");
  made.Edge(3, 6, "target", "write");
  made.Edge(4, 5, "file", "resize");
  made.Edge(4, 10, "backing");
  made.Edge(6, 7, "file", "resize");
  made.Edge(6, 4, "backing");
  made.Edge(8, 9, "file");
  made.Edge(8, 3, "backing");
  return made;
}

template <typename Request>
absl::Status Check(const std::string& text, const Graph& graph = Backup(),
                   const std::shared_ptr<const Schema>& schema = Old()) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  const auto& command = *backend::CommandIndex::Get().ByRequest(Request::descriptor());
  const GraphView view(graph.graph, graph.records);
  for (const GraphCheck& check : GraphChecks(command, request, *schema)) {
    if (absl::Status status = check(view); !status.ok()) return status;
  }
  return absl::OkStatus();
}

TEST(GraphDangersTest, WhatAJobTakesAwayIsNotBackedUpOrSnapshot) {
  for (const char* const node : {"filter0", "#target"}) {
    const std::string device = absl::StrCat("device: '", node, "'");
    for (const absl::Status& status :
         {Check<v1::BlockdevBackupRequest>(device), Check<v1::DriveBackupRequest>(device),
          Check<v1::BlockdevSnapshotSyncRequest>(device),
          Check<v1::BlockdevSnapshotSyncRequest>(absl::StrCat("node_name: '", node, "'")),
          Check<v1::BlockdevSnapshotInternalSyncRequest>(device),
          Check<v1::BlockdevSnapshotRequest>(absl::StrCat("node: '", node, "' overlay: 'x'")),
          Check<v1::TransactionRequest>(
              absl::StrCat("actions { blockdev_backup { ", device, " } }"))}) {
      EXPECT_TRUE(HasReason(status, Reason::kNodeBusy)) << node << ": " << status;
      EXPECT_NE(status.message().find(node), std::string::npos) << status;
      EXPECT_NE(status.message().find("job0"), std::string::npos) << status;
    }
  }
}

TEST(GraphDangersTest, WhatOthersHoldIsBackedUpBesideTheJob) {
  for (const char* const node : {"disk0", "top0", "#base", "#file8"}) {
    EXPECT_TRUE(Check<v1::BlockdevBackupRequest>(absl::StrCat("device: '", node, "'")).ok())
        << node;
  }
}

TEST(GraphDangersTest, AFileBelowATargetGoesWithIt) {
  Graph graph = Backup();
  for (Json& edge : graph.graph["edges"]) {
    if (edge["child"] == 7) edge["perm"] = Json::array();
  }
  const absl::Status status = Check<v1::BlockdevBackupRequest>("device: '#file6'", graph);
  EXPECT_TRUE(HasReason(status, Reason::kNodeBusy)) << status;
  EXPECT_NE(status.message().find("job0"), std::string::npos) << status;
}

TEST(GraphDangersTest, AFileThatGrowsIsNotBackedUp) {
  const absl::Status status = Check<v1::DriveBackupRequest>("device: '#file4'");
  EXPECT_TRUE(HasReason(status, Reason::kNodeBusy)) << status;
  EXPECT_NE(status.message().find("disk0"), std::string::npos) << status;
}

TEST(GraphDangersTest, AFileIsChangedOnlyByAReopenThatCannotFailLate) {
  const std::string other = "qcow2 { file { reference: 'other' } backing { none {} } ";
  const std::string same = "qcow2 { file { reference: '#file4' } ";
  const auto check = [](const std::string& options) {
    return Check<v1::BlockdevReopenRequest>(absl::StrCat("options { ", options, " }"), Backup(),
                                            New());
  };
  EXPECT_TRUE(check("node_name: 'disk0' " + other + "}").ok());
  EXPECT_TRUE(check("node_name: 'disk0' force_share: true " + same + "}").ok());
  for (const std::string& options :
       {"node_name: 'disk0' force_share: true " + other + "}",
        "node_name: 'disk0' " + other + "data_file { reference: 'x' } }",
        std::string("node_name: 'disk0' raw { file { reference: 'other' } }")}) {
    const absl::Status status = check(options);
    EXPECT_TRUE(HasReason(status, Reason::kInvalidCombination)) << options << ": " << status;
    EXPECT_NE(status.message().find("disk0"), std::string::npos) << status;
  }
}

TEST(GraphDangersTest, AnUnnamedNodeGetsNoOtherFile) {
  Graph graph;
  graph.Add(1, "block-driver", "top", "qcow2");
  graph.Add(2, "block-driver", "#base", "qcow2");
  graph.Add(3, "block-driver", "#file", "file");
  graph.Edge(1, 2, "backing");
  graph.Edge(2, 3, "file");
  const absl::Status status = Check<v1::BlockdevReopenRequest>(
      "options { node_name: '#base' qcow2 { file { reference: 'other' } } }", graph, New());
  EXPECT_TRUE(HasReason(status, Reason::kInvalidCombination)) << status;
}

TEST(GraphDangersTest, BeforeVersion8AChildBelowWhichWaysMeetIsNotTakenAway) {
  const auto reopen = [](const std::string& backing) {
    return absl::StrCat(
        "options { node_name: 'top0' qcow2 { file { reference: '#file8' } backing { ", backing,
        " } } }");
  };
  for (const char* const backing : {"none {}", "reference: '#base'"}) {
    const absl::Status status = Check<v1::BlockdevReopenRequest>(reopen(backing));
    EXPECT_TRUE(HasReason(status, Reason::kNodeBusy)) << status;
    EXPECT_NE(status.message().find("filter0"), std::string::npos) << status;
    EXPECT_TRUE(Check<v1::BlockdevReopenRequest>(reopen(backing), Backup(), New()).ok());
  }
  EXPECT_TRUE(Check<v1::BlockdevReopenRequest>(reopen("reference: 'filter0'")).ok());
}

TEST(GraphDangersTest, FromVersion8NobodyNewWritesPastAMirrorsFilter) {
  Graph graph;
  graph.Add(1, "block-job", "job0");
  graph.Add(2, "block-driver", "#mirror", "mirror_top");
  graph.Add(3, "block-driver", "disk0", "qcow2");
  graph.Add(4, "block-driver", "above", "raw");
  graph.Add(5, "block-driver", "target", "qcow2");
  graph.Add(6, "block-driver", "through", "raw");
  graph.Edge(1, 2, "main node");
  graph.Edge(1, 5, "target");
  graph.Edge(2, 3, "backing");
  graph.Edge(4, 3, "file");
  graph.Edge(6, 2, "file");
  for (const char* const node : {"disk0", "above"}) {
    const std::string text = absl::StrCat("node_name: '", node, "' writable: true");
    const absl::Status status = Check<v1::BlockExportAddRequest>(text, graph, New());
    EXPECT_TRUE(HasReason(status, Reason::kNodeBusy)) << node << ": " << status;
    EXPECT_NE(status.message().find("#mirror"), std::string::npos) << status;
    EXPECT_TRUE(Check<v1::BlockExportAddRequest>(text, graph, Old()).ok()) << node;
  }
  EXPECT_FALSE(Check<v1::NbdServerAddRequest>("device: 'disk0' writable: true", graph, New()).ok());
  EXPECT_TRUE(Check<v1::BlockExportAddRequest>("node_name: 'disk0'", graph, New()).ok());
  for (const char* const node : {"#mirror", "through", "target"}) {
    const std::string text = absl::StrCat("node_name: '", node, "' writable: true");
    EXPECT_TRUE(Check<v1::BlockExportAddRequest>(text, graph, New()).ok()) << node;
  }
}

}  // namespace
}  // namespace tidemark::qmp
