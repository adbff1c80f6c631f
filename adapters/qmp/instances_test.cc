#include "adapters/qmp/instances.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <map>

#include "adapters/qmp/instances_world.h"
#include "adapters/qmp/testing/fake_monitor.h"
#include "engine/base/error.h"
#include "engine/base/notification.h"
#include "engine/base/utf8.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST_F(InstancesTest, OneIsConnectedAndTellsWhoItIs) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  const auto created = Create("vm", monitor.path());
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_EQ(created->origin(), v1::INSTANCE_ORIGIN_API);
  const v1::Instance ready = WaitFor("vm", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(ready.name(), "guest");
  EXPECT_EQ(ready.uuid(), "11111111-2222-3333-4444-555555555555");
  EXPECT_EQ(ready.run_state(), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(ready.kind(), v1::INSTANCE_KIND_SYSTEM);
  EXPECT_EQ(ready.qemu_version(), "10.0.2");
  EXPECT_EQ(ready.qemu_package(), "fake");
  EXPECT_EQ(ready.process_id(), getpid());
  EXPECT_EQ(ready.counters().connections(), 1u);
  EXPECT_NE(instances_->Find("vm")->capabilities(), nullptr);
}

TEST_F(InstancesTest, OneWithoutRunStateIsAStorageDaemon) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  for (const char* command : {"query-name", "query-uuid", "query-status"}) {
    monitor.Fail(command, "CommandNotFound", "no such command");
  }
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  const v1::Instance ready = WaitFor("vm", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(ready.kind(), v1::INSTANCE_KIND_STORAGE_DAEMON);
  EXPECT_EQ(ready.run_state(), v1::RUN_STATE_UNSPECIFIED);
}

TEST_F(InstancesTest, AChangedRunStateIsTold) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  monitor.Answer("query-status", Json{{"running", false}, {"status", "io-error"}});
  ASSERT_TRUE(monitor.SendEvent("STOP", Json::object()));
  WaitUntil("vm", [](const v1::Instance& vm) { return vm.run_state() == v1::RUN_STATE_IO_ERROR; });
}

TEST_F(InstancesTest, OneThatGoesIsNotAskedForItsRunState) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  monitor.WaitForCommand("query-status");
  ASSERT_TRUE(monitor.SendEvent("SHUTDOWN", {{"guest", true}, {"reason", "guest-shutdown"}}));
  // When the next one is told, a question would have been sent.
  ASSERT_TRUE(monitor.SendEvent("DEVICE_DELETED", {{"path", "/x"}}));
  WaitForEvent("vm", [](const backend::Event& event) { return event.has_device_deleted(); });
  monitor.Hangup();
  ASSERT_TRUE(monitor.WaitForEnds(1));
  EXPECT_EQ(monitor.CountOf("query-status"), 1);
}

TEST_F(InstancesTest, ALostConnectionIsMadeAgain) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  monitor.Hangup();
  const v1::Instance lost = WaitFor("vm", v1::INSTANCE_STATE_CONNECTING);
  EXPECT_EQ(lost.error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  EXPECT_TRUE(lost.has_next_attempt_time());
  EXPECT_EQ(WaitFor("vm", v1::INSTANCE_STATE_READY).counters().connections(), 2u);
}

TEST_F(InstancesTest, WhatIsNotThereIsUnreachableUntilItsSocketAppears) {
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", folder_.File("vm.qmp")).ok());
  const v1::Instance absent = WaitFor("vm", v1::INSTANCE_STATE_UNREACHABLE);
  EXPECT_EQ(absent.error_reason(), v1::ERROR_REASON_INSTANCE_UNREACHABLE);
  EXPECT_TRUE(absent.has_next_attempt_time());
  EXPECT_THAT(absent.error(), HasSubstr("vm.qmp"));
  const v1::Instance waiting = *instances_->Get("vm");
  EXPECT_GE(waiting.counters().failed_attempts(), 1u);
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  WaitFor("vm", v1::INSTANCE_STATE_READY);
}

TEST_F(InstancesTest, APeerThatDoesNotSpeakQmpHasFailedAndSaysSoToCallers) {
  FakeMonitor monitor(folder_.File("vm.qmp"), "SSH-2.0-OpenSSH_9.2\r\n");
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  const v1::Instance failed = WaitFor("vm", v1::INSTANCE_STATE_FAILED);
  EXPECT_EQ(failed.error_reason(), v1::ERROR_REASON_INSTANCE_UNUSABLE);
  auto refused = std::make_shared<std::promise<absl::Status>>();
  backend::Invoke<v1::BlockdevDelResponse>(
      *instances_->Find("vm"), v1::BlockdevDelRequest(),
      [refused](absl::StatusOr<v1::BlockdevDelResponse> r) { refused->set_value(r.status()); });
  EXPECT_EQ(refused->get_future().get().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(InstancesTest, AQemuThatIsTooOldHasFailed) {
  FakeMonitor monitor(folder_.File("vm.qmp"),
                      R"({"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 7}, )"
                      R"("package": ""}, "capabilities": []}})"
                      "\r\n");
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  EXPECT_THAT(WaitFor("vm", v1::INSTANCE_STATE_FAILED).error(), HasSubstr("7.1.0"));
}

TEST_F(InstancesTest, AnotherAddressForATakenNameIsRefused) {
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", folder_.File("a")).ok());
  EXPECT_TRUE(Create("vm", folder_.File("a")).ok());
  const absl::Status refused = Create("vm", folder_.File("b")).status();
  EXPECT_EQ(DetailsOf(refused)->reason, Reason::kInstanceExists);
  EXPECT_EQ(instances_->List().size(), 1u);
}

TEST_F(InstancesTest, ADeletedOneIsGoneAndItsNameIsFree) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  EXPECT_TRUE(Delete("vm").ok());
  EXPECT_TRUE(monitor.WaitForEnds(1));
  WaitFor("vm", v1::INSTANCE_STATE_DELETED);
  EXPECT_EQ(instances_->Find("vm"), nullptr);
  EXPECT_EQ(DetailsOf(Delete("vm"))->reason, Reason::kInstanceNotFound);
  EXPECT_EQ(DetailsOf(instances_->Get("vm").status())->reason, Reason::kInstanceNotFound);
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
}

TEST_F(InstancesTest, AFailedAttemptAndADeletionDoNotCross) {
  ASSERT_TRUE(Start().ok());
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Create("vm", folder_.File("vm.qmp")).ok());
    ASSERT_TRUE(Delete("vm").ok());
    WaitFor("vm", v1::INSTANCE_STATE_DELETED);
  }
  EXPECT_THAT(instances_->Names(), IsEmpty());
}

TEST_F(InstancesTest, RegisteredOnesComeBackAfterARestartAndOthersDoNot) {
  FakeMonitor monitor(folder_.File("vm.qmp"));
  Prepare(monitor);
  options_.of_file = {Request("filed", folder_.File("filed"))};
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm", monitor.path()).ok());
  ASSERT_TRUE(Create("gone", folder_.File("gone")).ok());
  ASSERT_TRUE(Delete("gone").ok());
  Stop();
  EXPECT_EQ(store_.instances.size(), 1u);
  options_.of_file.clear();
  seen_ = log_.position();
  ASSERT_TRUE(Start().ok());
  EXPECT_THAT(instances_->Names(), ElementsAre("vm"));
  EXPECT_EQ(WaitFor("vm", v1::INSTANCE_STATE_READY).origin(), v1::INSTANCE_ORIGIN_API);
}

TEST_F(InstancesTest, WhatWasStoredOfVirtualMachinesThatAreThereNoMoreIsForgotten) {
  for (const char* const instance : {"vm", "of-a-folder"}) {
    v1::Job job;
    job.set_instance(instance);
    job.set_id("job");
    ASSERT_TRUE(store_.SaveJob(job).ok());
  }
  ASSERT_TRUE(store_.SaveInstance(Request("vm", folder_.File("vm.qmp"))).ok());
  ASSERT_TRUE(Start().ok());
  EXPECT_TRUE(store_.LoadJobs("of-a-folder")->empty());
  EXPECT_EQ(store_.LoadJobs("vm")->size(), 1u);
}

TEST_F(InstancesTest, AFullDiskKeepsNobodyFromComingBack) {
  ASSERT_TRUE(store_.SaveInstance(Request("vm", folder_.File("vm.qmp"))).ok());
  v1::Job job;
  job.set_instance("of-a-folder");
  ASSERT_TRUE(store_.SaveJob(job).ok());
  store_.failure = absl::ResourceExhaustedError("full");
  ASSERT_TRUE(Start().ok());
  EXPECT_TRUE(instances_->Get("vm").ok());
}

TEST_F(InstancesTest, WhatCannotBeStoredIsNotRegisteredAndNotForgotten) {
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("kept", folder_.File("kept")).ok());
  store_.failure = Error(Reason::kNoSpace, "The disk is full", {});
  EXPECT_EQ(DetailsOf(Create("vm", folder_.File("vm")).status())->reason, Reason::kNoSpace);
  EXPECT_EQ(DetailsOf(Delete("kept"))->reason, Reason::kNoSpace);
  EXPECT_THAT(instances_->Names(), ElementsAre("kept"));
}

TEST_F(InstancesTest, ClientsNameOnlySocketsOfFoldersThatTheyMayUse) {
  options_.sockets = *PathPolicy::Create({folder_.File("")});
  ASSERT_TRUE(Start().ok());
  EXPECT_TRUE(Create("vm", folder_.File("vm.qmp")).ok());
  const absl::Status refused = Create("vm2", "/run/other.qmp").status();
  EXPECT_EQ(DetailsOf(refused)->reason, Reason::kPathForbidden);
}

TEST_F(InstancesTest, MoreThanTheLimitAreRefused) {
  options_.instances_max = 1;
  ASSERT_TRUE(Start().ok());
  ASSERT_TRUE(Create("vm1", folder_.File("vm1")).ok());
  EXPECT_EQ(DetailsOf(Create("vm2", folder_.File("vm2")).status())->reason, Reason::kLimitReached);
}

class InstanceFolderTest : public InstancesTest {
 protected:
  InstanceFolderTest() {
    std::filesystem::create_directory(monitors_);
    options_.folders = {monitors_};
  }
  std::unique_ptr<FakeMonitor> Monitor(const std::string& name) {
    auto monitor = std::make_unique<FakeMonitor>(monitors_ + "/" + name);
    Prepare(*monitor);
    return monitor;
  }
  const std::string monitors_ = folder_.File("monitors");
};

TEST_F(InstanceFolderTest, ItsSocketsAreInstancesFromTheStartAndLater) {
  const auto first = Monitor("vm1.qmp.sock");
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(WaitFor("vm1", v1::INSTANCE_STATE_READY).origin(), v1::INSTANCE_ORIGIN_FOLDER);
  const auto second = Monitor("vm2.monitor");
  WaitFor("vm2", v1::INSTANCE_STATE_READY);
  EXPECT_THAT(store_.instances, IsEmpty()) << "they are found again by themselves";
}

TEST_F(InstanceFolderTest, OneWhoseSocketVanishesGoesWhenItsConnectionEnds) {
  auto monitor = Monitor("vm.sock");
  ASSERT_TRUE(Start().ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  std::filesystem::remove(monitor->path());
  const auto other = Monitor("other.sock");
  WaitFor("other", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(instances_->Get("vm")->state(), v1::INSTANCE_STATE_READY) << "it still talks";
  seen_ = 0;
  monitor->Hangup();
  WaitFor("vm", v1::INSTANCE_STATE_DELETED);
}

TEST_F(InstanceFolderTest, OneThatAClientRegisteredStaysWithoutItsSocket) {
  auto monitor = Monitor("vm.sock");
  ASSERT_TRUE(Start().ok());
  WaitFor("vm", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(Create("vm", monitor->path())->origin(), v1::INSTANCE_ORIGIN_API);
  monitor = nullptr;
  WaitFor("vm", v1::INSTANCE_STATE_UNREACHABLE);
  EXPECT_EQ(store_.instances.count("vm"), 1u);
  EXPECT_EQ(instances_->Get("vm")->id(), "vm");
}

TEST_F(InstanceFolderTest, WhatIsNoSocketOrHasNoFitNameIsLeftAlone) {
  std::ofstream(monitors_ + "/file.sock") << "no socket";
  const auto odd = Monitor("1 odd name.sock");
  const auto taken = Monitor("vm.sock");
  options_.of_file = {Request("vm", folder_.File("elsewhere"))};
  ASSERT_TRUE(Start().ok());
  const auto fine = Monitor("fine.sock");
  WaitFor("fine", v1::INSTANCE_STATE_READY);
  EXPECT_THAT(instances_->Names(), ElementsAre("fine", "vm"));
  EXPECT_EQ(instances_->Get("vm")->origin(), v1::INSTANCE_ORIGIN_FILE);
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("1 odd name"), HasSubstr("is taken")));
}

// Names that are not UTF-8 are nobody's: no client could read what tells of them.
TEST_F(InstanceFolderTest, ASocketWhoseNameIsLatin1IsLeftOut) {
  const std::string old = folder_.File("d\xe9p\xf4t");
  std::filesystem::create_directory(old);
  options_.folders.push_back(old);
  const auto odd = Monitor("vm-\xe9.sock");
  FakeMonitor in_odd_folder(old + "/vm.sock");
  Prepare(in_odd_folder);
  ASSERT_TRUE(Start().ok());
  const auto fine = Monitor("fine.sock");
  WaitFor("fine", v1::INSTANCE_STATE_READY);
  EXPECT_THAT(instances_->Names(), ElementsAre("fine"));
  EXPECT_THAT(warnings(), UnorderedElementsAre(HasSubstr("vm-\xef\xbf\xbd.sock"),
                                               HasSubstr("d\xef\xbf\xbdp\xef\xbf\xbdt/vm.sock")));
  for (const std::string& warning : warnings()) EXPECT_EQ(ToUtf8(warning), warning);
}

TEST_F(InstanceFolderTest, AFolderThatIsMadeAnewIsWatchedAgain) {
  ASSERT_TRUE(Start().ok());
  std::filesystem::remove_all(monitors_);
  std::filesystem::create_directory(monitors_);
  const auto monitor = Monitor("vm.sock");
  WaitFor("vm", v1::INSTANCE_STATE_READY);
}

TEST_F(InstanceFolderTest, AFolderThatIsNotThereIsRefused) {
  options_.folders.push_back(folder_.File("nowhere"));
  const absl::Status refused = Start();
  EXPECT_THAT(std::string(refused.message()), HasSubstr("nowhere"));
}

class InstancesFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<v1::CreateInstanceRequest>> Read(const std::string& text) {
    std::ofstream(path_) << text;
    return ReadInstancesFile(path_);
  }
  const SocketFolder folder_;
  const std::string path_ = folder_.File("instances.json");
};

TEST_F(InstancesFileTest, EachIsAsARequestWouldSayIt) {
  const auto read = Read(R"({"instances": [
    {"id": "vm1", "address": {"type": "unix", "path": "/run/vm1.qmp"}},
    {"id": "vm2", "address": {"type": "tcp", "host": "::1", "port": 4444}},
    {"id": "vm3", "address": {"type": "vsock", "cid": 3, "port": 9}}]})");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 3u);
  EXPECT_EQ(AddressOf((*read)[0])->ToString(), "unix:/run/vm1.qmp");
  EXPECT_EQ(AddressOf((*read)[1])->ToString(), "tcp:[::1]:4444");
  EXPECT_EQ(AddressOf((*read)[2])->ToString(), "vsock:3:9");
}

TEST_F(InstancesFileTest, WhatIsWrongIsNamedWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "instances.json"},
      {R"({"instances": 1})", "instances.json"},
      {R"({"instances": [{"id": "1", "address": {"type": "unix", "path": "/a"}}]})",
       "instances[0]"},
      {R"({"instances": [{"id": "vm"}]})", "instances[0]"},
      {R"({"instances": [{"id": "vm", "address": {"type": "unix", "path": "a"}}]})",
       "instances[0]"},
      {R"({"instances": [{"id": "vm", "address": {"type": "unix", "path": "/a"}, "x": 1}]})", "x"},
      {R"({"instances": [{"id": "vm", "address": {"type": "unix", "path": "/a"}},
                         {"id": "vm", "address": {"type": "unix", "path": "/b"}}]})",
       "instances[1]"}};
  for (const auto& [text, place] : cases) {
    const auto read = Read(text);
    EXPECT_FALSE(read.ok()) << text;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(place)) << text;
  }
  EXPECT_FALSE(ReadInstancesFile(folder_.File("nothing")).ok());
}

TEST_F(InstancesTest, AStoreThatHangsDoesNotHoldUpTheEnd) {
  ASSERT_TRUE(Start().ok());
  Notification saving;
  Notification released;
  store_.before_save = [&] {
    saving.Notify();
    released.WaitFor(absl::Minutes(1));
  };
  auto created = std::make_shared<Notification>();
  instances_->Create(Request("vm", folder_.File("vm")),
                     [created](const absl::StatusOr<v1::Instance>&) { created->Notify(); });
  ASSERT_TRUE(saving.WaitFor(absl::Minutes(1)));
  EXPECT_FALSE(instances_->Shutdown(absl::Milliseconds(10)));
  released.Notify();
  EXPECT_TRUE(created->WaitFor(absl::Minutes(1)));
  EXPECT_TRUE(instances_->Shutdown());
}

}  // namespace
}  // namespace tidemark::qmp
