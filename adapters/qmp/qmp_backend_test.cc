#include "adapters/qmp/qmp_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "adapters/qmp/testing/fake_monitor.h"
#include "adapters/qmp/testing/memory_store.h"
#include "adapters/qmp/testing/queue_executor.h"
#include "adapters/qmp/testing/recorder.h"
#include "adapters/qmp/testing/socket_folder.h"
#include "engine/base/error.h"
#include "engine/base/notification.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::HasSubstr;

// Of each command used here a few members.
constexpr char kSchema[] = R"([
  {"name": "str", "meta-type": "builtin", "json-type": "string"},
  {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
  {"name": "empty", "meta-type": "object", "members": []},
  {"name": "sync", "meta-type": "enum", "values": ["full"]},
  {"name": "backup", "meta-type": "object", "members": [
    {"name": "job-id", "type": "str", "default": null}, {"name": "device", "type": "str"},
    {"name": "target", "type": "str"}, {"name": "sync", "type": "sync"},
    {"name": "auto-dismiss", "type": "bool", "default": null}]},
  {"name": "id", "meta-type": "object", "members": [{"name": "id", "type": "str"}]},
  {"name": "node", "meta-type": "object", "members": [{"name": "node-name", "type": "str"}]},
  {"name": "int", "meta-type": "builtin", "json-type": "int"},
  {"name": "resize", "meta-type": "object", "members": [
    {"name": "node-name", "type": "str", "default": null}, {"name": "size", "type": "int"}]},
  {"name": "block_resize", "meta-type": "command", "arg-type": "resize", "ret-type": "empty"},
  {"name": "query-status", "meta-type": "command", "arg-type": "empty", "ret-type": "empty"},
  {"name": "query-named-block-nodes", "meta-type": "command", "arg-type": "empty",
   "ret-type": "empty"},
  {"name": "x-debug-query-block-graph", "meta-type": "command", "arg-type": "empty",
   "ret-type": "empty"},
  {"name": "blockdev-backup", "meta-type": "command", "arg-type": "backup", "ret-type": "empty"},
  {"name": "blockdev-del", "meta-type": "command", "arg-type": "node", "ret-type": "empty"},
  {"name": "driver", "meta-type": "enum", "values": ["copy-before-write"]},
  {"name": "copying", "meta-type": "object", "members": [
    {"name": "file", "type": "str"}, {"name": "target", "type": "str"}]},
  {"name": "add", "meta-type": "object", "members": [
    {"name": "driver", "type": "driver"}, {"name": "node-name", "type": "str", "default": null}],
   "tag": "driver", "variants": [{"case": "copy-before-write", "type": "copying"}]},
  {"name": "blockdev-add", "meta-type": "command", "arg-type": "add", "ret-type": "empty"},
  {"name": "job-pause", "meta-type": "command", "arg-type": "id", "ret-type": "empty"},
  {"name": "query-jobs", "meta-type": "command", "arg-type": "empty", "ret-type": "empty"},
  {"name": "query-block-jobs", "meta-type": "command", "arg-type": "empty", "ret-type": "empty"}
])";

// Owns connections to a monitor as an instance does, but for reconnecting.
class Owner final : public Connection::Listener, public std::enable_shared_from_this<Owner> {
 public:
  explicit Owner(std::shared_ptr<QmpBackend> backend) : backend_(std::move(backend)) {}

  void Open(IoLoop& loop, Executor& workers, const std::string& path) {
    MutexLock lock(&mutex_);
    connection_ =
        Connection::Open(loop, workers, *MonitorAddress::Parse("unix:" + path), shared_from_this());
  }
  void OnReady(const Greeting& greeting) override {
    std::shared_ptr<Connection> connection;
    {
      MutexLock lock(&mutex_);
      connection = connection_;
    }
    backend_->Attach(connection, greeting, [self = shared_from_this()](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      self->attached_.Notify();
    });
  }
  void OnEvent(Json event) override { backend_->OnEvent(std::move(event)); }
  void OnClosed(const absl::Status& why) override {
    backend_->Detach(why, /*is_local=*/true);
    closed_.Notify();
  }
  void Close() {
    MutexLock lock(&mutex_);
    if (connection_ != nullptr) connection_->Close(absl::OkStatus());
  }

  const std::shared_ptr<QmpBackend> backend_;
  Notification attached_;
  Notification closed_;

 private:
  Mutex mutex_;
  std::shared_ptr<Connection> connection_ ABSL_GUARDED_BY(mutex_);
};

class QmpBackendTest : public ::testing::Test {
 protected:
  QmpBackendTest() {
    monitor_.Answer("query-qmp-schema", Json::parse(kSchema));
    monitor_.Answer("query-jobs", Json::array());
    monitor_.Answer("query-block-jobs", Json::array());
    monitor_.Answer("query-block-exports", Json::array());
    monitor_.Answer("x-debug-query-block-graph", Json::object());
    monitor_.Answer("job-dismiss", Json::object());
    monitor_.Answer("blockdev-backup", Json::object());
    monitor_.Answer("blockdev-del", Json::object());
  }
  ~QmpBackendTest() override { Close(); }

  void Attach() {
    owner_ = std::make_shared<Owner>(backend_);
    owner_->Open(loop_, workers_, monitor_.path());
    ASSERT_TRUE(owner_->attached_.WaitFor(absl::Minutes(1)));
  }
  void Close() {
    if (owner_ == nullptr) return;
    owner_->Close();
    EXPECT_TRUE(owner_->closed_.WaitFor(absl::Minutes(1)));
    owner_ = nullptr;
  }

  template <typename Response>
  std::future<absl::StatusOr<Response>> Start(const google::protobuf::Message& request) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<Response>>>();
    backend::Invoke<Response>(*backend_, request, [promise](absl::StatusOr<Response> response) {
      promise->set_value(std::move(response));
    });
    return promise->get_future();
  }

  static v1::BlockdevBackupRequest Backup(const std::string& id) {
    v1::BlockdevBackupRequest request;
    request.set_instance("vm");
    request.set_job_id(id);
    request.set_device("disk0");
    request.set_target("target0");
    request.set_sync(v1::MIRROR_SYNC_MODE_FULL);
    return request;
  }
  void SendStatus(const std::string& id, const std::string& status) {
    ASSERT_TRUE(monitor_.SendEvent("JOB_STATUS_CHANGE", {{"id", id}, {"status", status}}));
  }
  bool WaitForStatus(v1::JobStatus status) {
    return WaitForEvent(
        [=](const v1::Event& event) { return event.job_status_change().status() == status; });
  }
  bool WaitForEvent(const std::function<bool(const v1::Event&)>& is_meant) {
    for (uint64_t after = 0;;) {
      const auto events = log_.Read(after);
      for (const auto& event : *events) {
        if (is_meant(*event)) return true;
        after = event->sequence();
      }
      auto woken = std::make_shared<Notification>();
      const uint64_t wake = log_.WakeAfter(after, [woken] { woken->Notify(); });
      if (!woken->WaitFor(absl::Minutes(1))) {
        log_.CancelWake(wake);
        return false;
      }
    }
  }

  const SocketFolder folder_;
  FakeMonitor monitor_{folder_.File("qmp")};
  IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  LookupPool lookups_{workers_};
  backend::EventLog log_{SystemClock(), workers_};
  backend::JobBook jobs_{log_};
  DialectCache dialects_;
  // Of the one test that needs them.
  QueueExecutor storing_;
  MemoryStore store_;
  std::shared_ptr<QmpBackend> backend_ = QmpBackend::Create(
      "vm", {loop_, workers_, workers_, lookups_, log_, jobs_, nullptr, SystemClock(), dialects_},
      {});
  std::shared_ptr<Owner> owner_;
};

TEST_F(QmpBackendTest, RefusesCallsWhileNothingIsConnectedAndSaysSo) {
  EXPECT_EQ(backend_->capabilities(), nullptr);
  const auto answer = Start<v1::BlockdevDelResponse>(v1::BlockdevDelRequest()).get();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MetadataOf(answer.status(), "outcome"), "not-sent");
  EXPECT_EQ(MetadataOf(answer.status(), "instance"), "vm");
}

TEST_F(QmpBackendTest, SendsNothingThatThisQemuDoesNotKnow) {
  Attach();
  v1::BlockdevBackupRequest request = Backup("full");
  request.set_compress(true);
  const auto answer = Start<v1::BlockdevBackupResponse>(request).get();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(MetadataOf(answer.status(), "field"), "compress");
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 0);
  EXPECT_EQ(backend_->capabilities()->commands.count("blockdev-backup"), 1u);
  EXPECT_EQ(backend_->capabilities()->commands.count("blockdev-reopen"), 0u);
}

TEST_F(QmpBackendTest, ARefusalOfQemusIsOneOfTheTable) {
  monitor_.Fail("blockdev-del", "GenericError", "Failed to find node with node-name='x'");
  Attach();
  v1::BlockdevDelRequest request;
  request.set_node_name("x");
  const auto answer = Start<v1::BlockdevDelResponse>(request).get();
  ASSERT_TRUE(DetailsOf(answer.status()).has_value());
  EXPECT_EQ(DetailsOf(answer.status())->reason, Reason::kNodeNotFound);
  EXPECT_EQ(MetadataOf(answer.status(), "instance"), "vm");
}

TEST_F(QmpBackendTest, AskedToDismissByItselfAJobIsHeldUntilItsEndIsTold) {
  Attach();
  ASSERT_TRUE(Start<v1::BlockdevBackupResponse>(Backup("full")).get().ok());
  const Json sent = monitor_.WaitForCommand("blockdev-backup");
  EXPECT_EQ(sent["arguments"]["auto-dismiss"], false);
  SendStatus("full", "created");
  ASSERT_TRUE(monitor_.SendEvent(
      "BLOCK_JOB_COMPLETED",
      {{"device", "full"}, {"type", "backup"}, {"len", 1}, {"offset", 1}, {"speed", 0}}));
  SendStatus("full", "concluded");
  EXPECT_EQ(monitor_.WaitForCommand("job-dismiss")["arguments"]["id"], "full");
  EXPECT_TRUE(WaitForStatus(v1::JOB_STATUS_CONCLUDED));
}

TEST_F(QmpBackendTest, AJobWhoseNameIsAboutToBeFreeWaitsForIt) {
  Attach();
  ASSERT_TRUE(Start<v1::BlockdevBackupResponse>(Backup("full")).get().ok());
  SendStatus("full", "created");
  ASSERT_TRUE(monitor_.SendEvent(
      "BLOCK_JOB_COMPLETED",
      {{"device", "full"}, {"type", "backup"}, {"len", 1}, {"offset", 1}, {"speed", 0}}));
  SendStatus("full", "concluded");
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_CONCLUDED));
  auto second = Start<v1::BlockdevBackupResponse>(Backup("full"));
  monitor_.WaitForCommand("job-dismiss");
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 1);
  SendStatus("full", "null");
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 2);
}

TEST_F(QmpBackendTest, AJobThatNeverBeganTellsNothing) {
  Attach();
  ASSERT_TRUE(monitor_.SendEvent(
      "BLOCK_JOB_READY",
      {{"type", "mirror"}, {"device", "no-job"}, {"len", 0}, {"offset", 0}, {"speed", 0}}));
  SendStatus("job", "created");
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_CREATED));
  const auto events = log_.Read(0);
  for (const auto& event : *events) EXPECT_FALSE(event->has_block_job_ready());
}

TEST_F(QmpBackendTest, AJobThatCannotBeRecordedInTimeIsRefusedAndHoldsNobodyUp) {
  backend_ = QmpBackend::Create(
      "vm", {loop_, workers_, storing_, lookups_, log_, jobs_, &store_, SystemClock(), dialects_},
      {});
  Attach();
  auto backup = Start<v1::BlockdevBackupResponse>(Backup("full"));
  // Waits only to stay behind the backup.
  auto del = Start<v1::BlockdevDelResponse>(v1::BlockdevDelRequest());
  const auto refused = backup.get();
  EXPECT_EQ(DetailsOf(refused.status())->reason, Reason::kIoError);
  EXPECT_EQ(MetadataOf(refused.status(), "outcome"), "not-sent");
  EXPECT_TRUE(del.get().ok());
  storing_.RunAll();  // The disk is back.
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 0);
  EXPECT_TRUE(store_.jobs.empty());
}

TEST_F(QmpBackendTest, ACommandUnderWayWhenTheConnectionEndsMayHaveBeenCarriedOut) {
  monitor_.Hold("blockdev-del");
  Attach();
  v1::BlockdevDelRequest request;
  request.set_node_name("x");
  auto answer = Start<v1::BlockdevDelResponse>(request);
  monitor_.WaitForCommand("blockdev-del");
  monitor_.Hangup();
  const absl::Status status = answer.get().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MetadataOf(status, "outcome"), "unknown");
  ASSERT_TRUE(owner_->closed_.WaitFor(absl::Minutes(1)));
  const auto later = Start<v1::BlockdevDelResponse>(request).get();
  EXPECT_EQ(MetadataOf(later.status(), "outcome"), "not-sent");
  EXPECT_THAT(std::string(later.status().message()), HasSubstr("'vm'"));
}

// A QEMU that has said SHUTDOWN may crash over a query, and what a client's request would need to
// be sent safely is a query of ours.
TEST_F(QmpBackendTest, AQemuThatIsGoingIsNotAskedForAClientEither) {
  monitor_.Answer("query-status", Json{{"status", "running"}});
  monitor_.Answer("query-named-block-nodes", Json::array());
  monitor_.Answer("block_resize", Json::object());
  Attach();
  v1::BlockResizeRequest resize;
  resize.set_node_name("disk0");
  resize.set_size(65536);
  ASSERT_TRUE(Start<v1::BlockResizeResponse>(resize).get().ok());
  ASSERT_EQ(monitor_.CountOf("query-status"), 1);
  ASSERT_TRUE(monitor_.SendEvent("SHUTDOWN", {{"guest", false}, {"reason", "host-qmp-quit"}}));
  ASSERT_TRUE(WaitForEvent([](const v1::Event& event) { return event.has_shutdown(); }));

  const absl::Status refused = Start<v1::BlockResizeResponse>(resize).get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable) << refused;
  EXPECT_EQ(MetadataOf(refused, "outcome"), "not-sent");
  EXPECT_EQ(monitor_.CountOf("query-status"), 1);
  EXPECT_EQ(monitor_.CountOf("query-named-block-nodes"), 1);
  EXPECT_EQ(monitor_.CountOf("block_resize"), 1);

  // Which id this job would have is not asked now, and without that it is not started.
  const absl::Status nameless = Start<v1::BlockdevBackupResponse>(Backup(/*id=*/"")).get().status();
  EXPECT_EQ(nameless.code(), absl::StatusCode::kUnavailable) << nameless;
  EXPECT_EQ(MetadataOf(nameless, "outcome"), "not-sent");
  EXPECT_EQ(MetadataOf(nameless, "instance"), "vm");
  EXPECT_EQ(monitor_.CountOf("x-debug-query-block-graph"), 1);
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 0);
  // Nor is it asked whether a job is about to take the source away.
  const absl::Status named = Start<v1::BlockdevBackupResponse>(Backup("full")).get().status();
  EXPECT_EQ(named.code(), absl::StatusCode::kUnavailable) << named;
  EXPECT_EQ(monitor_.CountOf("blockdev-backup"), 0);
  // What is sent unasked is the client's own word, and its own risk.
  v1::BlockdevDelRequest del;
  del.set_node_name("disk0");
  EXPECT_TRUE(Start<v1::BlockdevDelResponse>(del).get().ok());
}

// A filter with whose job a QEMU without the member `discard-source` would end.
TEST_F(QmpBackendTest, TheFilterOfAJobIsNotPutBelowCopyBeforeWrites) {
  const Json nodes = Json::parse(R"([{"node-name": "filter0"}, {"node-name": "disk0"}])");
  const Json graph = Json::parse(R"({
      "nodes": [{"id": 1, "type": "block-job", "name": "stream0"},
                {"id": 2, "type": "block-driver", "name": "filter0"},
                {"id": 3, "type": "block-driver", "name": "disk0"}],
      "edges": [{"parent": 1, "child": 2, "name": "main node", "perm": [], "shared-perm": []},
                {"parent": 1, "child": 3, "name": "active node", "perm": [], "shared-perm": []},
                {"parent": 2, "child": 3, "name": "file", "perm": [], "shared-perm": []}]})");
  monitor_.Answer("query-status", Json{{"status", "running"}});
  monitor_.Answer("query-named-block-nodes", nodes);
  monitor_.Answer("x-debug-query-block-graph", graph);
  monitor_.Answer("blockdev-add", Json::object());
  Attach();
  v1::BlockdevAddRequest add;
  add.mutable_options()->set_node_name("top0");
  auto* const copying = add.mutable_options()->mutable_copy_before_write();
  copying->mutable_file()->set_reference("filter0");
  copying->mutable_target()->set_reference("target0");
  const absl::Status refused = Start<v1::BlockdevAddResponse>(add).get().status();
  EXPECT_TRUE(HasReason(refused, Reason::kNodeBusy)) << refused;
  EXPECT_EQ(MetadataOf(refused, "node"), "filter0");
  EXPECT_EQ(MetadataOf(refused, "job"), "stream0");
  EXPECT_EQ(monitor_.CountOf("blockdev-add"), 0);
  copying->mutable_file()->set_reference("disk0");
  EXPECT_TRUE(Start<v1::BlockdevAddResponse>(add).get().ok());
}

TEST_F(QmpBackendTest, ResultsThatCameWhileNobodyListenedAreFound) {
  Attach();
  ASSERT_TRUE(Start<v1::BlockdevBackupResponse>(Backup("full")).get().ok());
  SendStatus("full", "created");
  SendStatus("full", "running");
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_RUNNING));
  Close();
  monitor_.Answer("query-jobs", Json::parse(R"([{"id": "full", "type": "backup",
      "status": "concluded", "current-progress": 3, "total-progress": 9,
      "error": "No space left on device"}])"));
  Attach();
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_CONCLUDED));
  const auto entry = jobs_.Find("vm", "full");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->view.job().error_reason(), v1::ERROR_REASON_NO_SPACE);
  EXPECT_EQ(entry->view.job().progress_bytes(), 3);
  EXPECT_EQ(monitor_.WaitForCommand("job-dismiss")["arguments"]["id"], "full");
}

TEST_F(QmpBackendTest, TheEndOfAJobThatIsNoBlockJobIsToldWithItsResult) {
  Attach();
  SendStatus("create", "created");
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_CREATED));
  monitor_.Answer("query-jobs", Json::parse(R"([{"id": "create", "type": "create",
      "status": "concluded", "current-progress": 0, "total-progress": 1,
      "error": "Image size must be a multiple of 512 bytes"}])"));
  SendStatus("create", "aborting");
  SendStatus("create", "concluded");
  ASSERT_TRUE(WaitForStatus(v1::JOB_STATUS_CONCLUDED));
  const auto entry = jobs_.Find("vm", "create");
  ASSERT_TRUE(entry.ok());
  EXPECT_THAT(entry->view.job().error(), HasSubstr("multiple of 512"));
}

}  // namespace
}  // namespace tidemark::qmp
