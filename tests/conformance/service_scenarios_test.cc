// The service around the engine: what it can do, what it lets in, how it starts and stops.
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <string>
#include <utility>

#include "tests/conformance/conformance.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

class ServiceScenarios : public Conformance {};

TEST_P(ServiceScenarios, CapabilitiesListEveryCommandThatWorks) {
  const auto told = operate().Do(v1::GetCapabilitiesRequest());
  std::map<std::string, v1::CommandCapability> commands;
  for (const auto& command : told.commands()) commands[command.command()] = command;
  for (const char* name : {"blockdev-add", "blockdev-del", "blockdev-create", "block_resize",
                           "query-named-block-nodes", "block-dirty-bitmap-add",
                           "block-dirty-bitmap-merge", "x-debug-block-dirty-bitmap-sha256",
                           "blockdev-backup", "drive-backup", "job-cancel", "block-job-set-speed",
                           "query-jobs", "transaction", "nbd-server-start", "block-export-add"}) {
    EXPECT_EQ(commands.count(name), 1u) << name;
  }
  EXPECT_EQ(commands["blockdev-backup"].method(), "/tidemark.block.v1.JobService/BlockdevBackup");
  EXPECT_NE(commands["drive-backup"].deprecated(), "");
  EXPECT_EQ(commands["blockdev-backup"].deprecated(), "");
  EXPECT_NE(told.service_version(), "");
  EXPECT_NE(told.engine(), v1::ENGINE_TYPE_UNSPECIFIED);
  bool qcow2 = false;
  for (const auto& driver : told.drivers()) {
    if (driver.driver() != v1::BLOCKDEV_DRIVER_QCOW2) continue;
    qcow2 = driver.open() && driver.write() && driver.create() && driver.backing() &&
            driver.persistent_bitmaps() && driver.compress();
  }
  EXPECT_TRUE(qcow2);
  const std::pair<const char*, v1::JobType> begun_by[] = {{"blockdev-backup", v1::JOB_TYPE_BACKUP},
                                                          {"blockdev-create", v1::JOB_TYPE_CREATE},
                                                          {"blockdev-mirror", v1::JOB_TYPE_MIRROR},
                                                          {"block-stream", v1::JOB_TYPE_STREAM},
                                                          {"block-commit", v1::JOB_TYPE_COMMIT}};
  for (const auto& [command, type] : begun_by) {
    if (commands.count(command) == 0) continue;
    EXPECT_THAT(told.job_types(), ::testing::Contains(type)) << command;
  }
  EXPECT_THAT(told.export_types(), ::testing::Contains(v1::BLOCK_EXPORT_TYPE_NBD));
  EXPECT_THAT(told.events(), ::testing::Contains(v1::EVENT_KIND_JOB_STATUS_CHANGE));
  EXPECT_GT(told.limits().events(), 0u);
  EXPECT_GT(told.limits().ended_jobs(), 0u);
  EXPECT_GT(told.limits().request_bytes(), 0u);
}

TEST_P(ServiceScenarios, AnUnknownMachineIsRefusedByName) {
  v1::QueryJobsRequest jobs;
  jobs.set_instance("vm9");
  EXPECT_THAT(operate().Try(jobs), Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, Mentions{"vm9"}));
  v1::GetCapabilitiesRequest capabilities;
  capabilities.set_instance("vm9");
  EXPECT_THAT(operate().Try(capabilities),
              Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, Mentions{"vm9"}));
  v1::BlockdevAddRequest add = Add(NullOptions("disk0", kMiB));
  add.set_instance("vm9");
  EXPECT_THAT(operate().Try(add), Refused(v1::ERROR_REASON_INSTANCE_NOT_FOUND, Mentions{"vm9"}));
}

TEST_P(ServiceScenarios, ARefusalCarriesTheFieldsPath) {
  v1::BlockdevOptions options = RawOptions("disk0", folder().File("x"));
  options.mutable_raw()->set_offset(-4);
  const auto reply = operate().Try(Add(options));
  ASSERT_THAT(reply, Refused(v1::ERROR_REASON_INVALID_FIELD, Mentions{"-4"}));
  EXPECT_EQ(reply.refusal.metadata.at("field"), "options.raw.offset");
  EXPECT_EQ(reply.refusal.metadata.at("qmp_class"), "GenericError");
}

TEST_P(ServiceScenarios, PathsOutsideTheImageFoldersAreRefused) {
  constexpr auto kForbidden = v1::ERROR_REASON_PATH_FORBIDDEN;
  TempFolder outside;
  const std::string path = outside.File("secret.qcow2");
  Image::Create(path, kDiskBytes);
  ExpectRefused(Add(Qcow2Options("disk0", path)), kForbidden, {path});
  ExpectRefused(Add(FileOptions("/etc/passwd", "disk0")), kForbidden, {"/etc/passwd"});
  const std::string around = folder().path() + "/../../etc/passwd";
  ExpectRefused(Add(FileOptions(around, "disk0")), kForbidden, {});
  // A name that merely begins like the folder's.
  ExpectRefused(Add(FileOptions(folder().path() + "-not/x", "disk0")), kForbidden, {});
  ExpectRefused(NbdStart(outside.File("nbd.sock")), kForbidden, {outside.File("nbd.sock")});
  v1::BlockdevCreateRequest create;
  create.set_job_id("make");
  create.mutable_options()->mutable_file()->set_filename(outside.File("new"));
  create.mutable_options()->mutable_file()->set_size(4096);
  ExpectRefused(create, kForbidden, {outside.File("new")});
  operate().CreateDisk("disk0");
  ExpectRefused(BackupToFile({.target = outside.File("drive.qcow2")}, "qcow2"), kForbidden,
                {outside.File("drive.qcow2")});
  ExpectRefused(Transact(BackupToFile({.target = outside.File("drive.qcow2")}, "qcow2")),
                kForbidden, {outside.File("drive.qcow2")});
  EXPECT_THAT(outside.List(), ElementsAre("secret.qcow2"));
}

TEST_P(ServiceScenarios, SymbolicLinksDoNotLeadOut) {
  constexpr auto kForbidden = v1::ERROR_REASON_PATH_FORBIDDEN;
  TempFolder outside;
  Image::Create(outside.File("secret.qcow2"), kDiskBytes);
  const std::string file_link = folder().File("link.qcow2");
  const std::string folder_link = folder().File("link");
  ASSERT_EQ(symlink(outside.File("secret.qcow2").c_str(), file_link.c_str()), 0);
  ASSERT_EQ(symlink(outside.path().c_str(), folder_link.c_str()), 0);
  ExpectRefused(Add(Qcow2Options("disk0", file_link)), kForbidden, {file_link});
  ExpectRefused(Add(Qcow2Options("disk0", folder_link + "/secret.qcow2")), kForbidden, {});
  operate().CreateDisk("disk0");
  ExpectRefused(BackupToFile({.target = folder_link + "/drive.qcow2"}, "qcow2"), kForbidden, {});
  // A dangling link is a way to create a file elsewhere.
  const std::string dangling = folder().File("dangling.qcow2");
  ASSERT_EQ(symlink(outside.File("made.qcow2").c_str(), dangling.c_str()), 0);
  ExpectRefused(BackupToFile({.target = dangling}, "qcow2"), kForbidden, {});
  ExpectRefused(NbdStart(folder_link + "/nbd.sock"), kForbidden, {});
  EXPECT_THAT(outside.List(), ElementsAre("secret.qcow2"));
  // A link that stays inside is fine.
  Image::Create(folder().File("real.qcow2"), kDiskBytes);
  ASSERT_EQ(symlink("real.qcow2", folder().File("inside.qcow2").c_str()), 0);
  operate().Do(Add(Qcow2Options("inside", folder().File("inside.qcow2"))));
}

TEST_P(ServiceScenarios, ABackingChainDoesNotLeadOut) {
  TempFolder outside;
  Image::Create(outside.File("secret.qcow2"), kDiskBytes);
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(Image(outside.File("secret.qcow2")));
  ExpectRefused(Add(Qcow2Options("disk0", operate().FileOf("disk0"))),
                v1::ERROR_REASON_PATH_FORBIDDEN, {outside.File("secret.qcow2")});
}

TEST_P(ServiceScenarios, TheSocketIsForItsOwner) {
  struct stat status;
  ASSERT_EQ(stat(folder().File("tidemarkd.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_P(ServiceScenarios, StoppingCancelsJobsSavesBitmapsAndClosesExports) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(BitmapAdd("disk0", "kept", absl::nullopt, /*persistent=*/true));
  guest().Write(2, Clusters(0, 64));
  operate().Do(Backup({.sync = kIncremental, .bitmap = "kept", .speed = kHold}));
  world().Stop();
  EXPECT_THAT(folder().Locks(), IsEmpty());
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("target0"), IsSound());
  EXPECT_THAT(image("disk0").Bitmaps(), ElementsAre(StoredBitmap{"kept", 65536, {"auto"}}));
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ServiceScenarios, StoppingLeavesNoSocketBehind) {
  operate().StartNbd();
  world().Stop();
  EXPECT_THAT(folder().List(), ::testing::Not(::testing::Contains("nbd.sock")));
}

TEST_P(ServiceScenarios, AStoppingServiceTellsTheEndOfItsJobs) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold}));
  world().BeginStop();
  EXPECT_TRUE(events().WaitForKind("job0", v1::EVENT_KIND_BLOCK_JOB_CANCELLED));
  world().FinishStop();
}

TEST_P(ServiceScenarios, AKilledServiceComesBackOnTheSameFiles) {
  CreateFullDisk();
  guest().Flush();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold}));
  guest().Write(2, Clusters(7, 3));
  guest().Flush();
  const std::string held = ModelOf("disk0")->bytes();
  Restart(/*crash=*/true);
  EXPECT_THAT(folder().Locks(), IsEmpty());
  operate().Attach("disk0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(held));
  // The stale NBD socket did not stand in the way; a new backup works.
  operate().CreateDisk("target1");
  operate().Do(Backup({.job = "job1", .target = "target1"}));
  operate().Finish("job1");
  Unplug();
  operate().Detach("disk0");
  operate().Detach("target1");
  // What a crash may leave behind are leaks, never worse.
  const ToolResult check = RunTool({"qemu-img", "check", operate().FileOf("disk0")});
  EXPECT_TRUE(check.exit_status == 0 || check.exit_status == 3) << check.output << check.errors;
  EXPECT_THAT(image("target1").Contents(), HoldsSameAs(held));
}

class StartupScenarios : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
    Image::Create(folder_.File("disk0.qcow2"), kDiskBytes);
  }
  TempFolder folder_;
};

TEST_F(StartupScenarios, RequestsOfAFileRunBeforeServing) {
  WriteFile(folder_.File("startup.json"), R"json([
    {"method": "BlockdevAdd", "body": {"options": {"node_name": "disk0", "qcow2":
      {"file": {"definition": {"file": {"filename": ")json" +
                                              folder_.File("disk0.qcow2") + R"json("}}}}}}},
    {"method": "tidemark.block.v1.ExportService/NbdServerStart", "body":
      {"addr": {"unix_socket": {"path": ")json" +
                                              folder_.File("nbd.sock") + R"json("}}}},
    {"method": "BlockExportAdd", "body":
      {"id": "e0", "node_name": "disk0", "writable": true, "nbd": {}}}
  ])json");
  Daemon daemon(&folder_, {"--startup=" + folder_.File("startup.json")});
  ASSERT_TRUE(daemon.started()) << daemon.Log();
  Guest guest({folder_.File("nbd.sock"), "disk0"}, std::make_shared<ByteModel>(kDiskBytes));
  ASSERT_TRUE(guest.connected()) << guest.error();
  guest.Write(1, Clusters(0, 1));
  EXPECT_EQ(daemon.Stop(), 0);
}

TEST_F(StartupScenarios, ARequestThatIsRefusedEndsTheService) {
  WriteFile(folder_.File("startup.json"),
            R"json([{"method": "BlockdevDel", "body": {"node_name": "nobody"}}])json");
  Daemon daemon(&folder_, {"--startup=" + folder_.File("startup.json")});
  EXPECT_FALSE(daemon.started());
  EXPECT_NE(daemon.process().Wait(absl::Seconds(20)).value_or(0), 0);
  EXPECT_THAT(daemon.Log(), ::testing::HasSubstr("nobody"));
}

TEST_F(StartupScenarios, AnOpenAddressNeedsAGuard) {
  Daemon daemon(&folder_, {"--listen=0.0.0.0:0"});
  EXPECT_FALSE(daemon.started());
  EXPECT_NE(daemon.process().Wait(absl::Seconds(20)).value_or(0), 0);
  EXPECT_THAT(daemon.Log(), ::testing::HasSubstr("0.0.0.0"));
}

TEST_F(StartupScenarios, HelpIsForPeople) {
  const ToolResult help = RunTool({Daemon::Binary(), "--help"});
  EXPECT_EQ(help.exit_status, 0);
  for (const char* flag : {"--listen", "--state_dir", "--image_root", "--startup", "--tls_cert"}) {
    EXPECT_THAT(help.output, ::testing::HasSubstr(flag));
  }
  EXPECT_NE(RunTool({Daemon::Binary(), "--no_such_flag"}).exit_status, 0);
}

ON_EVERY_BACKEND(ServiceScenarios);

}  // namespace
}  // namespace tidemark::test
