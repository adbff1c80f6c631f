// A daemon on a machine one of whose disks hangs: it serves all others, and ends when it is told
// to.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/hanging_files.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::test {
namespace {

using namespace block::v1;  // NOLINT: a test about requests.

constexpr absl::Duration kEndTimeout = absl::Seconds(120);

class HungDaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    auto mounted = HangingFiles::Mount(folder_.MakeFolder("below"), folder_.MakeFolder("hung"));
    if (!mounted.ok()) GTEST_SKIP() << mounted.status();
    disk_ = *std::move(mounted);
    daemon_ = std::make_unique<Daemon>(&folder_);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    for (const char* name : {"below/disk", "healthy"}) MakeImage(name);
  }
  void MakeImage(const std::string& name) {
    ASSERT_EQ(
        system(absl::StrCat("qemu-img create -q -f qcow2 ", folder_.File(name), " 8M").c_str()), 0);
  }
  // A node whose file is on the disk that hangs later: the engine itself hangs when it closes that.
  void AddOnDiskThatHangs(Client& client, const std::string& node) {
    MakeImage(absl::StrCat("below/", node));
    ASSERT_TRUE(Add(client, node, folder_.File(absl::StrCat("hung/", node))).ok());
  }
  Refusal Delete(Client& client, const std::string& node) {
    BlockdevDelRequest request;
    request.set_node_name(node);
    return client.Invoke(request).refusal;
  }
  void TearDown() override {
    if (disk_ != nullptr) disk_->Release();
    daemon_ = nullptr;
  }

  Refusal Add(Client& client, const std::string& node, const std::string& path) {
    BlockdevAddRequest request;
    request.mutable_options()->set_node_name(node);
    request.mutable_options()
        ->mutable_qcow2()
        ->mutable_file()
        ->mutable_definition()
        ->mutable_file()
        ->set_filename(path);
    return client.Invoke(request).refusal;
  }

  // The disk can be released then, and has to be: Linux ends no process whose last close of a file
  // is with a file system that does not answer.
  void WaitForLog(absl::string_view text) {
    const absl::Time end = absl::Now() + kEndTimeout;
    while (!absl::StrContains(daemon_->Log(), text)) {
      ASSERT_LT(absl::Now(), end) << daemon_->Log();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // It is another process.
    }
  }

  TempFolder folder_;
  std::unique_ptr<HangingFiles> disk_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(HungDaemonTest, ATermSignalSavesHealthyImagesAndEndsADaemonWhoseDiskHangs) {
  Client client(daemon_->address());
  ASSERT_TRUE(Add(client, "healthy", folder_.File("healthy")).ok());
  BlockDirtyBitmapAddRequest bitmap;
  bitmap.set_node("healthy");
  bitmap.set_name("b");
  bitmap.set_persistent(true);
  ASSERT_TRUE(client.Invoke(bitmap).refusal.ok());
  constexpr int kHung = 12;  // More than there are threads for anything else.
  for (int i = 0; i < kHung; ++i) AddOnDiskThatHangs(client, absl::StrCat("hung", i));
  disk_->Stall();
  std::vector<std::thread> hung;
  for (int i = 0; i < kHung; ++i) {
    hung.emplace_back([this, i] {
      Client own(daemon_->address());
      EXPECT_FALSE(Delete(own, absl::StrCat("hung", i)).ok());
    });
  }
  disk_->WaitForStalled();
  // Whoever has nothing to do with that disk notices nothing.
  QueryNamedBlockNodesRequest query;
  EXPECT_TRUE(client.Invoke(query).refusal.ok());
  ASSERT_TRUE(Add(client, "also-healthy", folder_.File("below/disk")).ok());

  daemon_->process().Signal(SIGTERM);
  WaitForLog("gave up");
  disk_->Release();
  const auto status = daemon_->process().Wait(kEndTimeout);
  ASSERT_TRUE(status.has_value()) << "it hangs: " << daemon_->Log();
  EXPECT_EQ(*status, 1) << "something was given up";
  for (std::thread& thread : hung) thread.join();

  // Consistent: not marked as in use.
  EXPECT_EQ(system(absl::StrCat("qemu-img info --output=json ", folder_.File("healthy"),
                                " | tr -d ' \\n' | grep -q '\"name\":\"b\"' && ! qemu-img info ",
                                folder_.File("healthy"), " | grep -q in-use")
                       .c_str()),
            0);
}

// The first order is being followed, and would be for half a minute.
TEST_F(HungDaemonTest, ASecondTermSignalEndsAHungStopAtOnceAndSaysWhatIsLost) {
  Client client(daemon_->address());
  AddOnDiskThatHangs(client, "hung");
  disk_->Stall();
  std::thread hung([this] {
    Client own(daemon_->address());
    EXPECT_FALSE(Delete(own, "hung").ok());
  });
  disk_->WaitForStalled();
  daemon_->process().Signal(SIGTERM);
  // It refuses commands from the moment that it stops.
  while (client.Invoke(QueryNamedBlockNodesRequest()).refusal.ok()) std::this_thread::yield();
  daemon_->process().Signal(SIGTERM);
  WaitForLog("bitmaps not saved");
  disk_->Release();
  const auto status = daemon_->process().Wait(kEndTimeout);
  ASSERT_TRUE(status.has_value()) << "it hangs: " << daemon_->Log();
  EXPECT_EQ(*status, 1);
  EXPECT_THAT(daemon_->Log(), testing::Not(testing::HasSubstr("gave up")))
      << "that takes half a minute";
  hung.join();
}

}  // namespace
}  // namespace tidemark::test
