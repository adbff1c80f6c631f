#include "adapters/qmp/export_keeper.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/testing/memory_store.h"
#include "adapters/qmp/testing/queue_executor.h"
#include "engine/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ExportKeeperTest : public ::testing::Test {
 protected:
  ExportKeeperTest() { Restart(); }

  // As a new process does; the log lives on.
  void Restart() {
    keeper_ = std::make_shared<ExportKeeper>("vm", log_, &store_, executor_);
    keeper_->Restore(*store_.LoadExports("vm"));
  }
  void Add(const std::string& id, const std::string& node) {
    v1::BlockExportAddRequest request;
    request.set_id(id);
    request.set_node_name(node);
    keeper_->OnCarriedOut(request);
  }
  void Deleted(const std::string& id) {
    backend::Event event;
    event.mutable_block_export_deleted()->set_id(id);
    keeper_->OnDeleted(std::move(event));
  }
  static v1::QueryBlockExportsResponse Exports(const std::vector<std::string>& ids) {
    v1::QueryBlockExportsResponse response;
    for (const std::string& id : ids) {
      v1::BlockExportInfo& info = *response.add_exports();
      info.set_id(id);
      info.set_node_name("node-of-" + id);
    }
    return response;
  }
  // Of all that have gone, in order; "*" for recovered.
  std::vector<std::string> Story() {
    executor_.RunAll();
    std::vector<std::string> story;
    const auto events = log_.Read(0);
    for (const auto& event : *events) {
      const v1::BlockExportDeletedEvent& deleted = event->block_export_deleted();
      story.push_back(
          absl::StrCat(event->recovered() ? "*" : "", deleted.id(), " ", deleted.node_name()));
    }
    return story;
  }

  QueueExecutor executor_;
  ManualClock clock_;
  backend::EventLog log_{clock_, executor_};
  MemoryStore store_;
  std::shared_ptr<ExportKeeper> keeper_;
};

TEST_F(ExportKeeperTest, AddsTheNodeToTheEndOfAnExport) {
  Add("e", "disk0");
  v1::NbdServerAddRequest named;
  named.set_device("disk1");
  named.set_name("n");
  keeper_->OnCarriedOut(named);
  v1::NbdServerAddRequest unnamed;
  unnamed.set_device("disk2");
  keeper_->OnCarriedOut(unnamed);
  EXPECT_TRUE(keeper_->AnyLives());
  for (const char* id : {"e", "n", "disk2", "nobody's"}) Deleted(id);
  EXPECT_THAT(Story(), ElementsAre("e disk0", "n disk1", "disk2 disk2", "nobody's "));
  EXPECT_FALSE(keeper_->AnyLives());
}

TEST_F(ExportKeeperTest, TellsAfterABreakWhatHasGone) {
  keeper_->Reconcile(Exports({"a", "b"}), true);
  EXPECT_THAT(Story(), IsEmpty());
  keeper_->Reconcile(Exports({"b", "c"}), true);
  EXPECT_THAT(Story(), ElementsAre("*a node-of-a"));
  keeper_->Reconcile(Exports({"b"}), /*same_qemu=*/false);
  EXPECT_THAT(Story(), ElementsAre("*a node-of-a", "*b node-of-b", "*c node-of-c"));
  EXPECT_TRUE(keeper_->AnyLives());
}

TEST_F(ExportKeeperTest, AllEndWithQemu) {
  Add("a", "disk0");
  Add("b", "disk1");
  keeper_->EndAll();
  EXPECT_THAT(Story(), ElementsAre("*a disk0", "*b disk1"));
  EXPECT_THAT(store_.exports, IsEmpty());
}

TEST_F(ExportKeeperTest, OutlivesTheProcess) {
  Add("a", "disk0");
  Add("b", "disk1");
  executor_.RunAll();
  Restart();
  keeper_->Reconcile(Exports({"b"}), true);
  EXPECT_THAT(Story(), ElementsAre("*a disk0"));
  EXPECT_EQ(store_.exports.size(), 1u);
}

TEST_F(ExportKeeperTest, AnEndThatWasNotSavedIsToldAgain) {
  Add("a", "disk0");
  executor_.RunAll();
  Deleted("a");
  Restart();
  keeper_->Reconcile({}, true);
  EXPECT_THAT(Story(), ElementsAre("a disk0", "*a disk0"));
}

TEST_F(ExportKeeperTest, AnInstanceThatIsGivenUpEndsNothing) {
  Add("a", "disk0");
  keeper_->Forget();
  keeper_->EndAll();
  EXPECT_THAT(Story(), IsEmpty());
  EXPECT_THAT(store_.exports, IsEmpty());
}

}  // namespace
}  // namespace tidemark::qmp
