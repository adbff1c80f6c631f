// Virtual machines are registered, found, reached, lost, watched and forgotten.
#include <signal.h>

#include <set>

#include "tests/conformance/conformance.h"
#include "tests/support/process.h"
#include "tests/support/storage_daemon_process.h"

namespace tidemark::test {
namespace {

v1::GetInstanceRequest Get(const std::string& id) {
  v1::GetInstanceRequest request;
  request.set_id(id);
  return request;
}

v1::DeleteInstanceRequest Delete(const std::string& id) {
  v1::DeleteInstanceRequest request;
  request.set_id(id);
  return request;
}

class InstanceScenarios : public ::testing::Test {
 protected:
  void Serve(const std::vector<std::string>& flags = {}) {
    daemon_ = std::make_unique<Daemon>(&folder_, flags);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
  }
  void TearDown() override {
    if (daemon_ != nullptr && daemon_->process().running()) {
      EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
    }
  }
  // A QEMU whose monitor listens at `path`.
  std::unique_ptr<Process> Qemu(const std::string& path, FirstClient first = FirstClient::kTest) {
    auto qemu = std::make_unique<Process>(StorageDaemonCommand(QemuBuild::Installed(), path),
                                          folder_.File("qemu.log"));
    if (first == FirstClient::kTest) AwaitMonitor(path);
    return qemu;
  }
  static bool HasQemu() { return HasTool("qemu-storage-daemon"); }

  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
};

TEST_F(InstanceScenarios, AreRegisteredListedAndForgotten) {
  Serve();
  const std::string path = folder_.File("nobody.sock");
  const auto created = client_->Invoke(CreateInstance("vm1", path));
  ASSERT_TRUE(created.ok()) << created;
  EXPECT_EQ(created->instance().id(), "vm1");
  EXPECT_EQ(created->instance().origin(), v1::INSTANCE_ORIGIN_API);
  EXPECT_TRUE(client_->Invoke(CreateInstance("vm1", path)).ok()) << "the same again";
  EXPECT_THAT(client_->Invoke(CreateInstance("vm1", path + "2")),
              Refused(v1::ERROR_REASON_INSTANCE_EXISTS, Mentions{"vm1", path, path + "2"}));
  EXPECT_EQ(client_->Invoke(Get("vm1"))->instance().address().unix_socket().path(), path);
  for (int i = 2; i < 5; ++i) {
    ASSERT_TRUE(client_->Invoke(CreateInstance("vm" + std::to_string(i), path)).ok());
  }
  v1::ListInstancesRequest list;
  list.set_page_size(2);
  std::vector<std::string> names;
  do {
    const auto page = client_->Invoke(list);
    ASSERT_TRUE(page.ok()) << page;
    for (const v1::Instance& instance : page->instances()) names.push_back(instance.id());
    list.set_page_token(page->next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(names, ElementsAre("vm1", "vm2", "vm3", "vm4"));
  EXPECT_TRUE(client_->Invoke(Delete("vm1")).ok());
  for (const auto& gone :
       {client_->Invoke(Delete("vm1")).refusal, client_->Invoke(Get("vm1")).refusal}) {
    EXPECT_EQ(gone.reason, "INSTANCE_NOT_FOUND") << gone;
  }
}

TEST_F(InstanceScenarios, WhatIsNoNameOrNoPlaceIsRefused) {
  Serve();
  EXPECT_THAT(client_->Invoke(CreateInstance("", folder_.File("s"))),
              Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{"id"}));
  EXPECT_THAT(client_->Invoke(CreateInstance("no/name", folder_.File("s"))),
              Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{"no/name"}));
  EXPECT_THAT(client_->Invoke(CreateInstance("vm", "relative")),
              Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{"relative"}));
  EXPECT_THAT(client_->Invoke(CreateInstance("vm", std::string(108, 'x'))),
              Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{}));
  v1::CreateInstanceRequest nowhere;
  nowhere.set_id("vm");
  EXPECT_THAT(client_->Invoke(nowhere), Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{}));
  EXPECT_THAT(client_->Invoke(CreateInstance("vm", "/run/of-somebody-else.sock")),
              Refused(v1::ERROR_REASON_PATH_FORBIDDEN, Mentions{"/run/of-somebody-else.sock"}));
  EXPECT_EQ(client_->Invoke(v1::ListInstancesRequest())->instances_size(), 0);
}

v1::CreateInstanceRequest CreateAtTcp(const std::string& id, const std::string& host,
                                      uint32_t port) {
  v1::CreateInstanceRequest request;
  request.set_id(id);
  request.mutable_address()->mutable_tcp()->set_host(host);
  request.mutable_address()->mutable_tcp()->set_port(port);
  return request;
}

TEST_F(InstanceScenarios, AConfinedServiceConnectsToNoPortForItsClients) {
  Serve();
  v1::CreateInstanceRequest vsock;
  vsock.set_id("vm");
  vsock.mutable_address()->mutable_vsock()->set_cid(2);
  vsock.mutable_address()->mutable_vsock()->set_port(4444);
  EXPECT_THAT(client_->Invoke(vsock), Refused(v1::ERROR_REASON_PATH_FORBIDDEN,
                                              Mentions{"vsock:2:4444", "--instance_address"}));
  EXPECT_THAT(client_->Invoke(CreateAtTcp("vm", "127.0.0.1", 22)),
              Refused(v1::ERROR_REASON_PATH_FORBIDDEN,
                      Mentions{"127.0.0.1:22", "--instance_address", "--image_root"}));
  EXPECT_EQ(client_->Invoke(v1::ListInstancesRequest())->instances_size(), 0);
}

TEST_F(InstanceScenarios, ItsOperatorAllowsPortsOneByOne) {
  Serve({"--instance_address=127.0.0.1:1", "--instance_address=vsock:3"});
  EXPECT_TRUE(client_->Invoke(CreateAtTcp("vm", "127.0.0.1", 1)).ok());
  EXPECT_THAT(client_->Invoke(CreateAtTcp("vm2", "127.0.0.1", 2)),
              Refused(v1::ERROR_REASON_PATH_FORBIDDEN, Mentions{"127.0.0.1:2"}));
  EXPECT_THAT(client_->Invoke(CreateAtTcp("vm3", "localhost", 1)),
              Refused(v1::ERROR_REASON_PATH_FORBIDDEN, Mentions{"localhost:1"}));
}

TEST_F(InstanceScenarios, AWatcherSeesAllAndThenEachChange) {
  Serve();
  ASSERT_TRUE(client_->Invoke(CreateInstance("vm1", folder_.File("a"))).ok());
  ASSERT_TRUE(client_->Invoke(CreateInstance("vm2", folder_.File("b"))).ok());
  std::set<std::string> first;
  bool complete = false;
  const Refusal end = client_->WatchInstances({}, [&](const v1::WatchInstancesResponse& response) {
    if (!complete) first.insert(response.instance().id());
    if (response.complete()) {
      complete = true;
      EXPECT_TRUE(client_->Invoke(Delete("vm1")).ok());
    }
    return response.instance().state() == v1::INSTANCE_STATE_DELETED;
  });
  EXPECT_TRUE(end.ok()) << end;
  EXPECT_THAT(first, ElementsAre("", "vm1", "vm2"));
}

TEST_F(InstanceScenarios, AQemuIsReachedLostAndReachedAgain) {
  if (!HasQemu()) GTEST_SKIP() << "qemu-storage-daemon is not installed";
  Serve();
  auto qemu = Qemu(folder_.File("vm.qmp"));
  ASSERT_TRUE(client_->Invoke(CreateInstance("vm", folder_.File("vm.qmp"))).ok());
  const v1::Instance ready = client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(ready.kind(), v1::INSTANCE_KIND_STORAGE_DAEMON);
  EXPECT_NE(ready.qemu_version(), "");
  EXPECT_EQ(ready.process_id(), qemu->pid());
  Client vm(daemon_->address(), "vm");
  EXPECT_TRUE(vm.Invoke(Add(NullOptions("disk0", kMiB))).ok());
  EXPECT_EQ(vm.Invoke(v1::GetCapabilitiesRequest())->engine(), v1::ENGINE_TYPE_QEMU);
  qemu->Signal(SIGKILL);
  client_->WaitForInstance("vm", v1::INSTANCE_STATE_UNREACHABLE);
  EXPECT_THAT(vm.Invoke(Add(NullOptions("disk1", kMiB))),
              Refused(v1::ERROR_REASON_INSTANCE_UNREACHABLE, Mentions{"vm"}));
  qemu = Qemu(folder_.File("vm.qmp"), FirstClient::kService);
  const v1::Instance again = client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY);
  EXPECT_EQ(again.process_id(), qemu->pid());
  EXPECT_EQ(vm.Invoke(v1::QueryNamedBlockNodesRequest())->nodes_size(), 0) << "it is another one";
}

TEST_F(InstanceScenarios, StatesAreEventsToo) {
  Serve();
  const auto created = client_->Invoke(CreateInstance("vm", folder_.File("vm.qmp")));
  client_->WaitForInstance("vm", v1::INSTANCE_STATE_UNREACHABLE);
  v1::WatchEventsRequest watch;
  watch.set_after(created->event_sequence());
  watch.add_instances("vm");
  watch.add_kinds(v1::EVENT_KIND_INSTANCE_STATE_CHANGE);
  const auto [responses, end] = client_->WatchEvents(watch, 3);
  ASSERT_EQ(responses.size(), 3u) << end;
  EXPECT_EQ(responses[1].event().instance_state_change().instance().state(),
            v1::INSTANCE_STATE_CONNECTING);
  EXPECT_EQ(responses[2].event().instance_state_change().instance().state(),
            v1::INSTANCE_STATE_UNREACHABLE);
}

TEST_F(InstanceScenarios, RegisteredOnesOutliveTheService) {
  if (!HasQemu()) GTEST_SKIP() << "qemu-storage-daemon is not installed";
  const auto qemu = Qemu(folder_.File("vm.qmp"));
  Serve();
  const auto created = client_->Invoke(CreateInstance("vm", folder_.File("vm.qmp")));
  ASSERT_TRUE(created.ok()) << created;
  ASSERT_TRUE(client_->Invoke(CreateInstance("gone", folder_.File("gone"))).ok());
  ASSERT_TRUE(client_->Invoke(Delete("gone")).ok());
  client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY);
  for (const bool crash : {true, false}) {
    if (crash) {
      daemon_->Kill();
    } else {
      EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
    }
    Serve();
    const v1::Instance ready = client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY);
    EXPECT_EQ(ready.origin(), v1::INSTANCE_ORIGIN_API);
    EXPECT_THAT(client_->Invoke(Get("gone")),
                Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, Mentions{"gone"}));
  }
  // A watcher that was there before is told of all since.
  v1::WatchEventsRequest watch;
  watch.set_after(created->event_sequence());
  const auto [responses, end] = client_->WatchEvents(watch, 4);
  EXPECT_EQ(responses.size(), 4u) << end;
}

TEST_F(InstanceScenarios, SocketsOfAFolderAreInstances) {
  if (!HasQemu()) GTEST_SKIP() << "qemu-storage-daemon is not installed";
  TempFolder monitors;
  const auto first = Qemu(monitors.File("vm1.sock"));
  Serve({"--instance_dir=" + monitors.path()});
  const auto second = Qemu(monitors.File("vm2.qmp"), FirstClient::kService);
  for (const char* id : {"vm1", "vm2"}) {
    const v1::Instance ready = client_->WaitForInstance(id, v1::INSTANCE_STATE_READY);
    EXPECT_EQ(ready.origin(), v1::INSTANCE_ORIGIN_FOLDER) << id;
  }
  second->Signal(SIGTERM);
  EXPECT_EQ(client_->WaitForInstance("vm2", v1::INSTANCE_STATE_DELETED).id(), "vm2");
  EXPECT_THAT(client_->Invoke(Get("vm2")),
              Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, Mentions{"vm2"}));
}

TEST_F(InstanceScenarios, AFileOfInstancesIsReadAtTheStart) {
  WriteFile(folder_.File("instances.json"),
            R"({"instances": [{"id": "vm", "address": {"type": "unix", "path": "/run/vm.qmp"}}]})");
  Serve({"--instances=" + folder_.File("instances.json")});
  EXPECT_EQ(client_->Invoke(Get("vm"))->instance().origin(), v1::INSTANCE_ORIGIN_FILE);
}

TEST_F(InstanceScenarios, AQemuIsHeldToTheImageFolders) {
  if (!HasQemu()) GTEST_SKIP() << "qemu-storage-daemon is not installed";
  const auto qemu = Qemu(folder_.File("vm.qmp"));
  Serve();
  ASSERT_TRUE(client_->Invoke(CreateInstance("vm", folder_.File("vm.qmp"))).ok());
  ASSERT_EQ(client_->WaitForInstance("vm", v1::INSTANCE_STATE_READY).id(), "vm");
  Client vm(daemon_->address(), "vm");
  // What QEMU would take for something else than a file in the folder.
  for (const std::string& name :
       {std::string("/etc/passwd"), std::string("nbd:localhost:10809"), std::string("json:{}"),
        std::string("fat:/etc"), std::string("file:/etc/passwd"), std::string("passwd"),
        folder_.path() + "/../../etc/passwd"}) {
    EXPECT_THAT(vm.Invoke(Add(FileOptions(name, "disk0"))),
                Refused(v1::ERROR_REASON_PATH_FORBIDDEN, Mentions{name}));
  }
  WriteFile(folder_.File("disk.raw"), std::string(kMiB, 'x'));
  const auto added = vm.Invoke(Add(FileOptions(folder_.File("disk.raw"), "disk0")));
  EXPECT_TRUE(added.ok()) << added;
}

}  // namespace
}  // namespace tidemark::test
