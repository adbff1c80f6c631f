// For tests of this package: a graph with short ways to add nodes, users and filters.
#ifndef ENGINE_GRAPH_GRAPH_FIXTURE_H_
#define ENGINE_GRAPH_GRAPH_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/fake_driver.h"
#include "engine/graph/graph.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::graph {

inline constexpr uint64_t kDiskBytes = 1 << 20;
inline constexpr Permissions kGuest = {
    storage::kPermissionConsistentRead | storage::kPermissionWrite,
    storage::kPermissionAll & ~storage::kPermissionResize};
inline constexpr Permissions kReader = {storage::kPermissionConsistentRead,
                                        storage::kPermissionAll};

inline void ExpectRefused(const absl::Status& status, Reason reason, absl::string_view words = "") {
  const auto details = DetailsOf(status);
  ASSERT_TRUE(details.has_value()) << status;
  EXPECT_EQ(NameOf(details->reason), NameOf(reason)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::string(words)));
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
    auto driver = std::make_shared<FakeDriver>(std::make_shared<storage::MemoryStorage>(kDiskBytes),
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
                               .is_job_filter = true,
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

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_GRAPH_FIXTURE_H_
