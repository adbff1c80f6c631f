// A copy between nodes of a graph, driven by steps as in production, while moments are taken in
// which nothing happens to any of them: all their ports are closed, those of the copy too.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/copy/copier.h"
#include "engine/copy/copier_world.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/graph_fixture.h"
#include "engine/graph/quiesce.h"
#include "engine/storage/completion_watch.h"
#include "engine/storage/placeable_storage.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

using graph::Edge;
using graph::Node;

constexpr uint64_t kClusterCount = 256;

class CopyInGraphTest : public graph::GraphTest {
 protected:
  ~CopyInGraphTest() override {
    if (copy_ != nullptr) copy_->Finish();
    for (Edge* edge : edges_) graph.Detach(edge);
  }

  // A disk that batch I/O can be had with; what arrives there can be made to fail.
  Node* AddDisk(const std::string& name, std::shared_ptr<MemoryStorage> memory,
                std::shared_ptr<FailingStorage>* arrivals) {
    *arrivals = std::make_shared<FailingStorage>(
        std::make_shared<storage::PlaceableStorage>(std::move(memory)));
    auto node =
        graph.AddNode({.name = name, .driver = std::make_shared<graph::FakeDriver>(*arrivals)});
    EXPECT_TRUE(node.ok()) << node.status();
    return *node;
  }
  Edge* UseAsJob(Node* node, graph::Permissions permissions) {
    edges_.push_back(Use(node, permissions, /*gated=*/false, "block job 'j'"));
    return edges_.back();
  }

  void MakeDisks() {
    source_ = AddDisk("source", memory_, &source_arrivals_);
    target_ = AddDisk("target", target_memory_, &target_arrivals_);
    guest_ = Use(source_, graph::kGuest);
    edges_.push_back(guest_);
  }
  void MakeCopy() {
    auto to_copy = std::make_unique<bitmap::DirtyBitmap>(before_.size(), kCluster);
    to_copy->SetAll();
    copy_ = BlockCopy::Make(UseAsJob(source_, graph::kReader)->port(),
                            UseAsJob(target_, graph::kGuest)->port(), std::move(to_copy), {},
                            {.guest = &guest_workers_, .io = &io_workers_, .watch = watch_},
                            &SystemClock());
    copy_->set_waker([this] { woken_ = true; });
  }
  // The filter of the job, between the guest and the source.
  void PutFilterIn() {
    Edge* const below = Use(source_, {}, /*gated=*/false, "block job 'j'");
    auto filter = graph.AddNode(
        {.name = "filter",
         .driver = std::make_shared<graph::CopyBeforeWriteDriver>(below->port(), copy_),
         .ownership = graph::Ownership::kEngine,
         .is_job_filter = true,
         .children = {{below, graph::kRoleFile, graph::ChildPolicy::kCopyBeforeWrite}}});
    ASSERT_TRUE(filter.ok()) << filter.status();
    graph::Quiesce quiesce(graph.AllPortsAbove({source_}));
    ASSERT_TRUE(graph.InsertFilter(*filter, source_).ok());
  }

  StepResult Step() {
    const absl::StatusOr<StepResult> result = copy_->Step(kCluster * 8);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return {.next = StepResult::Next::kDone};
    EXPECT_FALSE(result->io_error.has_value()) << result->io_error->status;
    return *result;
  }
  // As the scheduler before it lets anything be closed under a job.
  void Drain() {
    while (!copy_->Drain()) {
      while (!woken_.exchange(false)) std::this_thread::yield();
    }
  }

  const std::string before_ = Pattern(kClusterCount * kCluster, 1);
  std::shared_ptr<MemoryStorage> memory_ = MemoryStorage::Of(before_);
  std::shared_ptr<MemoryStorage> target_memory_ = std::make_shared<MemoryStorage>(before_.size());
  std::shared_ptr<FailingStorage> source_arrivals_;
  std::shared_ptr<FailingStorage> target_arrivals_;
  WorkerPool guest_workers_{"guest", 1};
  WorkerPool io_workers_{"io", 2};
  std::shared_ptr<storage::CompletionWatch> watch_ = std::make_shared<storage::CompletionWatch>();
  std::atomic<bool> woken_ = false;
  std::shared_ptr<BlockCopy> copy_;
  Node* source_ = nullptr;
  Node* target_ = nullptr;
  Edge* guest_ = nullptr;
  std::vector<Edge*> edges_;
};

TEST_F(CopyInGraphTest, NothingHappensWhileAllPortsAreClosedAndThenTheCopyGoesOn) {
  MakeDisks();
  MakeCopy();
  PutFilterIn();
  int moments = 0;
  uint64_t written_cluster = kClusterCount;
  while (Step().next != StepResult::Next::kDone) {
    if (written_cluster > 0) {
      // From the end, so that the background meets what guests have saved half way.
      const std::string data = Pattern(kCluster, 2);
      ASSERT_TRUE(guest_->port()->Write(--written_cluster * kCluster, AsBytes(data), {}).ok());
    }
    if (moments >= 20 && written_cluster % 8 != 0) continue;
    Drain();
    const auto ports = graph.AllPortsAbove({source_, target_});
    EXPECT_EQ(ports.size(), 4u) << "guest, two of the copy, and the filter's";
    graph::Quiesce quiesce(ports);
    // Then the next step would flush the target, and that would wait for the moment to pass.
    if (copy_->progress().current_bytes == before_.size()) continue;
    // Whatever arrives at a disk now would be counted, and told by the step that asked for it.
    for (const auto& arrivals : {source_arrivals_, target_arrivals_}) {
      arrivals->AddRule({.status = absl::InternalError("arrived in the moment")});
    }
    for (int i = 0; i < 5; ++i) EXPECT_NE(Step().next, StepResult::Next::kDone);
    Drain();
    for (const auto& arrivals : {source_arrivals_, target_arrivals_}) {
      EXPECT_EQ(arrivals->failure_count(), 0);
      arrivals->ClearRules();
    }
    ++moments;
  }
  EXPECT_GE(moments, 5);
  EXPECT_TRUE(target_memory_->Contents() == before_);
  EXPECT_TRUE(copy_->lost().ok()) << copy_->lost();
}

}  // namespace
}  // namespace tidemark::copy
