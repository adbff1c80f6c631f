// Names on a file system that hangs: whoever sends them is told so in time, and nobody else
// notices, neither clients nor virtual machines. Through the API of a real daemon.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/hanging_files.h"
#include "tests/support/process.h"
#include "tests/support/qemu_build.h"
#include "tests/support/storage_daemon_process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kEndTimeout = absl::Seconds(120);
// More than one place may have at a time, and more than the daemon has threads for streams.
constexpr int kHungCount = 12;
constexpr int kHealthyCount = 20;

// "images" is the image root of the daemon and holds "vm.qmp", the monitor of a virtual machine.
class HungNamesTest : public testing::TestWithParam<const char*> {
 protected:
  // The file system that hangs is mounted on `mount_point`, a folder of the test's.
  void Start(const std::string& mount_point, std::vector<std::string> flags = {}) {
    folder_.MakeFolder("images");
    auto mounted =
        HangingFiles::Mount(folder_.MakeFolder("below"), folder_.MakeFolder(mount_point));
    if (!mounted.ok()) GTEST_SKIP() << mounted.status();
    disk_ = *std::move(mounted);
    const QemuBuild qemu = QemuBuild::Installed();
    if (!qemu.Missing().empty()) GTEST_SKIP() << qemu.Missing();
    qemu_ = std::make_unique<StorageDaemonProcess>(qemu, folder_.File("images/vm.qmp"));
    flags.push_back(absl::StrCat("--image_root=", folder_.File("images")));
    daemon_ = std::make_unique<Daemon>(&state_, std::move(flags));
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
    ASSERT_TRUE(Register("vm", folder_.File("images/vm.qmp")).ok());
    ASSERT_EQ(client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY).id(), "vm");
  }
  void TearDown() override {
    if (disk_ != nullptr) disk_->Release();
    JoinHung();
    daemon_ = nullptr;
  }
  Refusal Register(const std::string& id, const std::string& path) {
    Client own(daemon_->address());
    return own.Invoke(CreateInstance(id, path)).refusal;
  }
  // To the engine of the test.
  Refusal AddFile(const std::string& node, const std::string& path) {
    Client own(daemon_->address(), GetParam());
    v1::BlockdevAddRequest request;
    request.mutable_options()->set_node_name(node);
    request.mutable_options()->mutable_file()->set_filename(path);
    return own.Invoke(request).refusal;
  }

  // Sends requests for files of `folder`, all of which hang, and returns when the disk is asked.
  void HangAdds(const std::string& folder) {
    disk_->Stall();
    refusals_.resize(kHungCount);
    for (int i = 0; i < kHungCount; ++i) {
      hung_.emplace_back([this, folder, i] {
        refusals_[i] = AddFile(absl::StrCat("hung", i), absl::StrCat(folder, "/disk", i));
      });
    }
    disk_->WaitForStalled();
  }
  void JoinHung() {
    for (std::thread& thread : hung_) thread.join();
    hung_.clear();
  }

  // While they hang: streams go on, the daemon says that it serves, others are served.
  void ExpectThatOthersAreServed() {
    v1::WatchEventsRequest watch;
    watch.mutable_heartbeat_interval()->set_nanos(100'000'000);
    int heartbeats = 0;
    const Refusal end = client_->WatchEvents(watch, [&](const v1::WatchEventsResponse& response) {
      heartbeats += response.has_heartbeat() ? 1 : 0;
      return heartbeats == 5;
    });
    EXPECT_TRUE(end.ok()) << end;
    EXPECT_EQ(heartbeats, 5);
    EXPECT_TRUE(client_->WaitUntilServing(kEndTimeout));
    for (int i = 0; i < kHealthyCount; ++i) {
      const std::string name = absl::StrCat("images/healthy", i);
      WriteFile(folder_.File(name), std::string(4096, 'x'));
      const Refusal added = AddFile(absl::StrCat("healthy", i), folder_.File(name));
      EXPECT_TRUE(added.ok()) << added;
    }
  }

  // Of the disk mounted on `mount_point`, which is let go.
  void ExpectFilesOnceItIsBack(const std::string& mount_point) {
    disk_->Release();
    WriteFile(folder_.File("below/back"), std::string(4096, 'x'));
    const std::string path = folder_.File(absl::StrCat(mount_point, "/back"));
    Refusal added = AddFile("back", path);
    while (added.code == absl::StatusCode::kUnavailable) added = AddFile("back", path);
    EXPECT_TRUE(added.ok()) << added;
  }

  void ExpectThatItEndsInOrder() {
    daemon_->process().Signal(SIGTERM);
    const auto status = daemon_->process().Wait(kEndTimeout);
    ASSERT_TRUE(status.has_value()) << "it hangs: " << daemon_->Log();
    EXPECT_EQ(*status, 0) << daemon_->Log();
    EXPECT_THAT(daemon_->Log(), testing::Not(testing::HasSubstr("gave up")));
  }

  const TempFolder folder_;
  const TempFolder state_;
  std::unique_ptr<HangingFiles> disk_;
  std::unique_ptr<StorageDaemonProcess> qemu_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
  std::vector<std::thread> hung_;
  std::vector<Refusal> refusals_;
};

TEST_P(HungNamesTest, WhoNamesAFileOnAHungMountIsToldAndOthersNoticeNothing) {
  ASSERT_NO_FATAL_FAILURE(Start("images/hung"));
  if (IsSkipped()) return;
  HangAdds(folder_.File("images/hung"));
  ExpectThatOthersAreServed();
  JoinHung();
  for (const Refusal& refusal : refusals_) {
    EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
    EXPECT_EQ(refusal.reason, "FILE_NOT_ANSWERING") << refusal;
    EXPECT_THAT(refusal.message, testing::HasSubstr("images/hung/disk"));
    EXPECT_THAT(refusal.metadata.at("file"), testing::HasSubstr("images/hung/disk"));
  }
  ExpectFilesOnceItIsBack("images/hung");
}

// What a symbolic link leads to is not known before the disk has told.
TEST_P(HungNamesTest, NamesOutsideTheRootHoldUpNobodyEither) {
  ASSERT_NO_FATAL_FAILURE(Start("outside"));
  if (IsSkipped()) return;
  HangAdds(folder_.File("outside"));
  ExpectThatOthersAreServed();
  JoinHung();
  for (const Refusal& refusal : refusals_) {
    EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
  }
  disk_->Release();
}

TEST_P(HungNamesTest, ATermSignalEndsADaemonThatLooksUpNamesInVain) {
  ASSERT_NO_FATAL_FAILURE(Start("images/hung"));
  if (IsSkipped()) return;
  HangAdds(folder_.File("images/hung"));
  ExpectThatItEndsInOrder();
  JoinHung();
  int answered = 0;
  for (const Refusal& refusal : refusals_) {
    EXPECT_FALSE(refusal.ok());
    answered += refusal.code == absl::StatusCode::kUnavailable ? 1 : 0;
    // One that was only coming when the daemon ended is not taken any more.
    if (refusal.code != absl::StatusCode::kUnavailable) {
      EXPECT_EQ(refusal.code, absl::StatusCode::kCancelled) << refusal;
    }
  }
  EXPECT_GE(answered, 1) << "the one that the disk was asked for";
}

// The native engine, and a virtual machine.
INSTANTIATE_TEST_SUITE_P(Engines, HungNamesTest, testing::Values("", "vm"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return info.param[0] == '\0' ? "Native" : "Bridge";
                         });

// Names that no request shows, and what the service itself is told.
class HungDisksTest : public HungNamesTest {
 protected:
  // More than the commands that one file system may have at a time.
  static constexpr int kOverlayCount = 40;

  Refusal AddOverlay(int number) {
    Client own(daemon_->address(), GetParam());
    v1::BlockdevAddRequest request;
    request.mutable_options()->set_node_name(absl::StrCat("overlay", number));
    request.mutable_options()
        ->mutable_qcow2()
        ->mutable_file()
        ->mutable_definition()
        ->mutable_file()
        ->set_filename(folder_.File(absl::StrCat("images/overlay", number)));
    return own.Invoke(request).refusal;
  }
};

TEST_P(HungDisksTest, BackingFilesThatHangHoldUpNoOthersOnTheDiskOfTheirOverlays) {
  ASSERT_NO_FATAL_FAILURE(Start("images/hung"));
  if (IsSkipped()) return;
  for (int i = 0; i < kOverlayCount; ++i) {
    const ToolResult made = RunTool({"qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw",
                                     "-b", folder_.File("images/hung/base"),
                                     folder_.File(absl::StrCat("images/overlay", i)), "1M"});
    ASSERT_EQ(made.exit_status, 0) << made.errors;
  }
  disk_->Stall();
  refusals_.resize(kOverlayCount);
  for (int i = 0; i < kOverlayCount; ++i) {
    hung_.emplace_back([this, i] { refusals_[i] = AddOverlay(i); });
  }
  disk_->WaitForStalled();
  ExpectThatOthersAreServed();
  JoinHung();
  for (const Refusal& refusal : refusals_) {
    EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
    EXPECT_EQ(refusal.reason, "FILE_NOT_ANSWERING") << refusal;
    EXPECT_THAT(refusal.message, testing::HasSubstr("images/hung/base"));
  }
  ExpectThatItEndsInOrder();
}

// Nobody knows what such a root is; whoever has his disks elsewhere does not care.
TEST_P(HungDisksTest, ARootThatHangsAtTheStartHoldsUpNoOther) {
  ASSERT_NO_FATAL_FAILURE(Start("hung"));
  if (IsSkipped()) return;
  daemon_ = nullptr;
  disk_->Stall();
  daemon_ = std::make_unique<Daemon>(
      &state_,
      std::vector<std::string>{absl::StrCat("--image_root=", folder_.File("hung")),
                               absl::StrCat("--image_root=", folder_.File("images")),
                               absl::StrCat("--instance_dir=", folder_.File("hung/machines"))});
  ASSERT_TRUE(daemon_->started()) << daemon_->Log();
  EXPECT_THAT(daemon_->Log(), testing::HasSubstr("--image_root: Cannot look up"));
  EXPECT_THAT(daemon_->Log(), testing::HasSubstr("--instance_dir: Cannot look up"));
  client_ = std::make_unique<Client>(daemon_->address());
  ExpectThatOthersAreServed();
  ExpectFilesOnceItIsBack("hung");
  ExpectThatItEndsInOrder();
}

INSTANTIATE_TEST_SUITE_P(Engines, HungDisksTest, testing::Values(""),
                         [](const auto&) { return std::string("Native"); });

class HungSocketsTest : public HungNamesTest {
 protected:
  // Registers instances whose sockets hang, and returns when the disk is asked.
  void HangInstances(const std::string& folder) {
    disk_->Stall();
    refusals_.resize(kHungCount);
    for (int i = 0; i < kHungCount; ++i) {
      hung_.emplace_back([this, folder, i] {
        refusals_[i] = Register(absl::StrCat("hung", i), absl::StrCat(folder, "/vm", i));
      });
    }
    disk_->WaitForStalled();
  }
  void ExpectThatOthersAreRegistered() {
    for (int i = 0; i < 3; ++i) {
      const std::string id = absl::StrCat("other", i);
      const std::string socket = folder_.File(absl::StrCat("images/", id, ".qmp"));
      StorageDaemonProcess other(QemuBuild::Installed(), socket);
      const Refusal registered = Register(id, socket);
      EXPECT_TRUE(registered.ok()) << registered;
      EXPECT_EQ(client_->WaitForInstance(id, v1::INSTANCE_STATE_READY).id(), id);
      v1::DeleteInstanceRequest gone;
      gone.set_id(id);
      EXPECT_TRUE(client_->Invoke(gone).refusal.ok());
    }
  }
};

TEST_P(HungSocketsTest, OneThatHangsHoldsUpNoOtherInstance) {
  ASSERT_NO_FATAL_FAILURE(Start("images/hung"));
  if (IsSkipped()) return;
  HangInstances(folder_.File("images/hung"));
  ExpectThatOthersAreRegistered();
  ExpectThatOthersAreServed();
  JoinHung();
  for (const Refusal& refusal : refusals_) {
    EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
    EXPECT_EQ(refusal.reason, "FILE_NOT_ANSWERING") << refusal;
  }
  ExpectThatItEndsInOrder();
}

// Those were there before the disk began to hang; connections to them are tried again and again.
TEST_P(HungSocketsTest, InstancesOnAHungMountHoldUpNoOtherInstance) {
  ASSERT_NO_FATAL_FAILURE(Start("images/hung"));
  if (IsSkipped()) return;
  for (int i = 0; i < kHungCount; ++i) {
    const Refusal registered =
        Register(absl::StrCat("hung", i), folder_.File(absl::StrCat("images/hung/vm", i)));
    ASSERT_TRUE(registered.ok()) << registered;
  }
  disk_->Stall();
  disk_->WaitForStalled();
  ExpectThatOthersAreRegistered();
  ExpectThatOthersAreServed();
  // A service that starts now finds them registered, and cannot ask whether it may.
  daemon_->Kill();
  daemon_ = std::make_unique<Daemon>(
      &state_, std::vector<std::string>{absl::StrCat("--image_root=", folder_.File("images"))});
  ASSERT_TRUE(daemon_->started()) << daemon_->Log();
  client_ = std::make_unique<Client>(daemon_->address());
  ASSERT_EQ(client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY).id(), "vm");
  v1::GetInstanceRequest get;
  get.set_id("hung0");
  EXPECT_TRUE(client_->Invoke(get).refusal.ok());
  ExpectThatOthersAreRegistered();
  ExpectThatItEndsInOrder();
}

INSTANTIATE_TEST_SUITE_P(Engines, HungSocketsTest, testing::Values("vm"),
                         [](const auto&) { return std::string("Bridge"); });

// Files that the service reads before it serves, each by its flag: a disk that hangs holds up the
// start, since without them it cannot serve, but not the order to stop.
class HungStartTest : public testing::TestWithParam<const char*> {};

TEST_P(HungStartTest, ATermSignalEndsAStartThatWaitsForADisk) {
  const TempFolder folder;
  auto disk = HangingFiles::Mount(folder.MakeFolder("below"), folder.MakeFolder("hung"));
  if (!disk.ok()) GTEST_SKIP() << disk.status();
  // The kernel's own first request is answered then, and none hangs but the daemon's.
  EXPECT_FALSE(std::filesystem::exists(folder.File("hung/file")));
  (*disk)->Stall();
  std::vector<std::string> command = {
      Daemon::Binary(), absl::StrCat("--listen=unix:", folder.File("socket")),
      absl::StrCat("--", GetParam(), "=", folder.File("hung/file"))};
  if (GetParam() == std::string("tls_cert")) {
    command.push_back(absl::StrCat("--tls_key=", folder.File("key")));
  }
  Process daemon(command, folder.File("log"));
  (*disk)->WaitForStalled();
  daemon.Signal(SIGTERM);
  const auto status = daemon.Wait(absl::Seconds(30));
  (*disk)->Release();
  ASSERT_TRUE(status.has_value()) << "it hangs: " << daemon.Log();
  EXPECT_EQ(*status, 0) << daemon.Log();
  EXPECT_THAT(daemon.Log(), testing::Not(testing::HasSubstr("listening")));
}

INSTANTIATE_TEST_SUITE_P(Flags, HungStartTest,
                         testing::Values("state_dir", "instances", "startup", "tls_cert"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tidemark::test
