// QMP's irregular corners as typed messages: each JSON below is one that QEMU takes or gives, and
// must come back from its message word for word.
#include <cstdint>
#include <memory>
#include <string>

#include "adapters/qmp/transcoder.h"
#include "engine/backend/capabilities.h"
#include "engine/backend/validate.h"
#include "engine/base/error_metadata.h"
#include "gtest/gtest.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/block_graph.pb.h"
#include "tidemark/block/v1/block_info.pb.h"
#include "tidemark/block/v1/block_stats.pb.h"
#include "tidemark/block/v1/chain.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/device_io.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"
#include "tidemark/block/v1/object_options.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

template <typename T>
T Read(const std::string& json, Strictness strictness) {
  T message;
  uint64_t unknown_count = 0;
  const absl::Status status = FromJson(Json::parse(json), strictness, &message, &unknown_count);
  EXPECT_TRUE(status.ok()) << status << "\n" << json;
  EXPECT_EQ(unknown_count, 0u) << json;
  return message;
}

// Members in no order: QMP promises none.
nlohmann::json Unordered(const std::string& text) { return nlohmann::json::parse(text); }

// Reads `json` as a legal request, expects that it is written as it was, and returns it.
template <typename T>
T Request(const std::string& json) {
  T message = Read<T>(json, Strictness::kRequest);
  EXPECT_EQ(Unordered(ToJson(message).dump()), Unordered(json));
  const absl::Status legal = backend::Validate(message);
  EXPECT_TRUE(legal.ok()) << legal << "\n" << json;
  return message;
}

// The same for a reply, with zeros where QEMU gives them.
template <typename T>
T Reply(const std::string& json) {
  T message = Read<T>(json, Strictness::kReply);
  EXPECT_EQ(Unordered(ToJson(message, {.with_zeros = true}).dump()), Unordered(json));
  return message;
}

// The field that the refusal of `message` names.
std::string RefusedField(const google::protobuf::Message& message) {
  const absl::Status status = backend::Validate(message);
  EXPECT_FALSE(status.ok());
  return MetadataOf(status, "field");
}

TEST(BlockTypesTest, DriversAreNamedAsQmpNamesThem) {
  for (const char* driver : {"host_device", "host_cdrom"}) {
    Request<v1::BlockdevAddRequest>(std::string(R"({"node-name":"d","driver":")") + driver +
                                    R"(","filename":"/dev/sr0","aio":"io_uring"})");
  }
  for (const char* driver : {"null-co", "null-aio"}) {
    Request<v1::BlockdevAddRequest>(std::string(R"({"node-name":"d","driver":")") + driver +
                                    R"(","size":1048576,"read-zeroes":true})");
  }
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"nvme-io_uring","path":"/dev/ng0n1"})");
  EXPECT_EQ(request.options().driver_case(), v1::BlockdevOptions::kNvmeIoUring);
}

TEST(BlockTypesTest, EncryptionIsAUnionInsideAUnion) {
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"qcow2","file":"f",)"
      R"("encrypt":{"format":"luks","key-secret":"s"},)"
      R"("backing":{"driver":"qcow","file":"g","encrypt":{"format":"aes","key-secret":"t"},)"
      R"("backing":null}})");
  EXPECT_EQ(request.options().qcow2().encrypt().luks().key_secret(), "s");
  EXPECT_TRUE(request.options().qcow2().backing().definition().qcow().backing().has_none());
}

TEST(BlockTypesTest, AParentsEncryptionLiesBesideTheTagOfItsChilds) {
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"rbd","pool":"p","image":"i","encrypt":{"format":"luks2",)"
      R"("key-secret":"s","parent":{"format":"luks-any","key-secret":"t"}},)"
      R"("auth-client-required":["cephx","none"],"server":[{"host":"a","port":"6789"}]})");
  EXPECT_EQ(request.options().rbd().encrypt().parent().luks_any().key_secret(), "t");
}

TEST(BlockTypesTest, ACaseMayHaveNothingToSay) {
  for (const char* mode : {"none", "known_hosts"}) {
    Request<v1::BlockdevAddRequest>(
        std::string(R"({"node-name":"d","driver":"ssh","server":{"host":"h","port":"22"},)"
                    R"("path":"/x","host-key-check":{"mode":")") +
        mode + R"("}})");
  }
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"ssh","server":{"host":"h","port":"22"},"path":"/x",)"
      R"("host-key-check":{"mode":"hash","type":"sha256","hash":"00"}})");
  EXPECT_EQ(request.options().ssh().host_key_check().hash().hash(), "00");
}

TEST(BlockTypesTest, AListMayBeOfAlternates) {
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"q","driver":"quorum","vote-threshold":2,"read-pattern":"fifo",)"
      R"("children":["a",{"driver":"null-co"},{"driver":"raw","file":"b"}]})");
  EXPECT_EQ(request.options().quorum().children(0).reference(), "a");
  EXPECT_EQ(request.options().quorum().children(2).definition().raw().file().reference(), "b");
  v1::BlockdevAddRequest childless = request;
  childless.mutable_options()->mutable_quorum()->clear_children();
  EXPECT_EQ(RefusedField(childless), "options.quorum.children");
}

TEST(BlockTypesTest, FaultRulesKeepTheirUnderscores) {
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"blkdebug","image":"f","inject-error":[{"event":"l2_update",)"
      R"("state":2,"iotype":"write-zeroes","errno":28,"sector":0,"once":true}],)"
      R"("set-state":[{"event":"none","state":1,"new_state":0}],)"
      R"("take-child-perms":["consistent-read","write-unchanged"]})");
  const v1::BlkdebugInjectErrorOptions& error = request.options().blkdebug().inject_error(0);
  EXPECT_EQ(error.event(), v1::BLKDEBUG_EVENT_L2_UPDATE);
  EXPECT_EQ(error.error_number(), 28);
  EXPECT_TRUE(error.has_sector());
}

TEST(BlockTypesTest, AFlatSocketAddressHasItsMembersBesideTheType) {
  for (const char* server :
       {R"({"type":"unix","path":"/s","abstract":false})",
        R"({"type":"vsock","cid":"2","port":"9"})", R"({"type":"fd","str":"f0"})",
        R"({"type":"inet","host":"","port":"10809","to":10810,"keep-alive":true,"mptcp":true})"}) {
    Request<v1::BlockdevAddRequest>(
        std::string(R"({"node-name":"d","driver":"nbd","export":"e","server":)") + server + "}");
  }
}

TEST(BlockTypesTest, ANestedSocketAddressHasThemInData) {
  for (const char* addr : {R"({"type":"vsock","data":{"cid":"3","port":"9"}})",
                           R"({"type":"fd","data":{"str":"f0"}})"}) {
    Request<v1::NbdServerStartRequest>(std::string(R"({"addr":)") + addr + "}");
  }
}

TEST(BlockTypesTest, FiltersNameBitmapsAndGroups) {
  const auto request = Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"copy-before-write","file":"f","target":"t",)"
      R"("bitmap":{"node":"f","name":"b0"},"on-cbw-error":"break-snapshot","cbw-timeout":5,)"
      R"("min-cluster-size":131072})");
  EXPECT_EQ(request.options().copy_before_write().bitmap().name(), "b0");
  Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"throttle","throttle-group":"g","file":"f"})");
  Request<v1::BlockdevAddRequest>(
      R"({"node-name":"d","driver":"https","url":"https://h/x","sslverify":false,"timeout":9})");
}

TEST(BlockTypesTest, ImagesAreCreatedWithNamesInCamelCase) {
  Request<v1::BlockdevCreateRequest>(
      R"({"job-id":"j","options":{"driver":"vmdk","file":"f","size":0,"extents":["a","b"],)"
      R"("subformat":"twoGbMaxExtentSparse","adapter-type":"legacyESX"}})");
  Request<v1::BlockdevCreateRequest>(
      R"({"job-id":"j","options":{"driver":"luks","file":"f","size":1048576,"key-secret":"s",)"
      R"("cipher-alg":"twofish-256","ivgen-alg":"essiv","ivgen-hash-alg":"sha256",)"
      R"("iter-time":10}})");
  Request<v1::BlockdevCreateRequest>(
      R"({"job-id":"j","options":{"driver":"rbd","size":1,"location":{"pool":"p","image":"i"},)"
      R"("encrypt":{"format":"luks","key-secret":"s","cipher-alg":"aes-128"}}})");
}

TEST(BlockTypesTest, AContainerNeedsAFileOrAHeader) {
  auto request = Request<v1::BlockdevCreateRequest>(
      R"({"job-id":"j","options":{"driver":"luks","header":"h","size":1,"key-secret":"s"}})");
  request.mutable_options()->mutable_luks()->clear_header();
  EXPECT_FALSE(backend::Validate(request).ok());
}

TEST(BlockTypesTest, KeySlotsAreAmendedThroughTwoUnions) {
  const auto amend = Request<v1::BlockdevAmendOptions>(
      R"({"driver":"qcow2","encrypt":{"format":"luks","state":"active","new-secret":"n",)"
      R"("keyslot":0}})");
  EXPECT_TRUE(amend.qcow2().encrypt().luks().has_keyslot());
}

TEST(BlockTypesTest, WhatCrashesQemuIsRefused) {
  const auto amend = Read<v1::BlockdevAmendOptions>(
      R"({"driver":"luks","state":"inactive","old-secret":"o"})", Strictness::kRequest);
  EXPECT_EQ(backend::Validate(amend).code(), absl::StatusCode::kInvalidArgument);
}

TEST(BlockTypesTest, ObjectsAreToldByTheirType) {
  Request<v1::ObjectOptions>(
      R"({"qom-type":"throttle-group","id":"g","limits":{"bps-total":1048576,"iops-read-max":100,)"
      R"("iops-read-max-length":2},"x-iops-size":4096})");
  Request<v1::ObjectOptions>(R"({"qom-type":"iothread","id":"t","poll-max-ns":0})");
  Request<v1::ObjectOptions>(R"({"qom-type":"secret_keyring","id":"s","serial":7})");
  Request<v1::ObjectOptions>(
      R"({"qom-type":"tls-creds-x509","id":"c","verify-peer":false,"dir":"/d",)"
      R"("endpoint":"server"})");
  Request<v1::ObjectOptions>(
      R"({"qom-type":"authz-list","id":"a","policy":"deny","rules":[{"match":"CN=*",)"
      R"("policy":"allow","format":"glob"}]})");
}

TEST(BlockTypesTest, ASecretHasExactlyOneValue) {
  auto options = Request<v1::ObjectOptions>(
      R"({"qom-type":"secret","id":"s","format":"base64","data":"c2VjcmV0"})");
  options.mutable_secret()->set_file("/s");
  EXPECT_FALSE(backend::Validate(options).ok());
  options.mutable_secret()->clear_data();
  EXPECT_TRUE(backend::Validate(options).ok());
  options.mutable_secret()->clear_file();
  EXPECT_FALSE(backend::Validate(options).ok());
}

TEST(BlockTypesTest, ExportsOfEveryKind) {
  Request<v1::BlockExportAddRequest>(
      R"({"id":"e","node-name":"d","type":"vhost-user-blk","addr":{"type":"unix","path":"/s"},)"
      R"("num-queues":4,"iothread":"t","fixed-iothread":true,"logical-block-size":4096})");
  Request<v1::BlockExportAddRequest>(
      R"({"id":"e","node-name":"d","type":"fuse","mountpoint":"/m","growable":true,)"
      R"("allow-other":"off"})");
  Request<v1::BlockExportAddRequest>(
      R"({"id":"e","node-name":"d","type":"vduse-blk","name":"v","queue-size":128,"serial":"x"})");
}

TEST(BlockTypesTest, ImagesTellWhatOnlyTheirFormatKnows) {
  const auto luks = Reply<v1::ImageInfoSpecific>(
      R"({"type":"luks","data":{"cipher-alg":"aes-256","cipher-mode":"xts","ivgen-alg":"plain64",)"
      R"("hash-alg":"sha256","detached-header":false,"payload-offset":2068480,)"
      R"("master-key-iters":100000,"uuid":"u","slots":[{"active":true,"iters":1000,"stripes":4000,)"
      R"("key-offset":4096},{"active":false,"key-offset":262144}]}})");
  EXPECT_FALSE(luks.luks().slots(1).has_iters());
  const auto aes = Reply<v1::ImageInfoSpecific>(
      R"({"type":"qcow2","data":{"compat":"1.1","data-file-raw":false,"extended-l2":false,)"
      R"("lazy-refcounts":false,"corrupt":false,"refcount-bits":16,"encrypt":{"format":"aes"},)"
      R"("compression-type":"zlib"}})");
  EXPECT_TRUE(aes.qcow2().encrypt().has_aes());
  Reply<v1::ImageInfoSpecific>(
      R"({"type":"vmdk","data":{"create-type":"monolithicSparse","cid":4294967295,"parent-cid":0,)"
      R"("extents":[{"filename":"x","format":"SPARSE","virtual-size":65536,"cluster-size":65536,)"
      R"("compressed":false}]}})");
}

TEST(BlockTypesTest, StatisticsHaveFractionsAndDriversOfTheirOwn) {
  const auto timed = Read<v1::BlockDeviceTimedStats>(
      R"({"interval_length":60,"avg_rd_queue_depth":0.125,"avg_wr_queue_depth":3})",
      Strictness::kReply);
  EXPECT_EQ(timed.avg_rd_queue_depth(), 0.125);
  EXPECT_EQ(timed.avg_wr_queue_depth(), 3);
  Reply<v1::BlockStatsSpecific>(
      R"({"driver":"host_device","discard-nb-ok":1,"discard-nb-failed":0,)"
      R"("discard-bytes-ok":4096})");
  Reply<v1::BlockLatencyHistogramInfo>(
      R"({"boundaries":[10,50],"bins":[3,1,18446744073709551615]})");
  v1::BlockDeviceTimedStats ignored;
  EXPECT_FALSE(
      FromJson(Json::parse(R"({"avg_rd_queue_depth":"1"})"), Strictness::kReply, &ignored).ok());
}

TEST(BlockTypesTest, DrivesAndGraphsKeepTheirNames) {
  Reply<v1::BlockInfo>(
      R"({"device":"ide1-cd0","qdev":"/machine/unattached/device[24]","type":"unknown",)"
      R"("removable":true,"locked":false,"tray_open":false,"io-status":"nospace"})");
  Reply<v1::XDbgBlockGraph>(
      R"({"nodes":[{"id":1,"type":"block-driver","name":"d"},{"id":2,"type":"block-backend",)"
      R"("name":"drive0"}],"edges":[{"parent":2,"child":1,"name":"root",)"
      R"("perm":["consistent-read"],"shared-perm":["write","resize"]}]})");
}

// Every kind of node, image and export that QEMU alone has is refused by name for the native
// engine.
TEST(BlockTypesTest, WhatOnlyQemuHasIsRefusedForTheNativeEngine) {
  const auto* const driver = v1::BlockdevOptions::descriptor()->FindOneofByName("driver");
  int native_count = 0;
  for (int i = 0; i < driver->field_count(); ++i) {
    v1::BlockdevAddRequest request;
    auto* const options = request.mutable_options();
    options->GetReflection()->MutableMessage(options, driver->field(i));
    const absl::Status status = backend::CheckEngine(request, backend::EngineKind::kNative);
    EXPECT_TRUE(backend::CheckEngine(request, backend::EngineKind::kQemu).ok());
    if (status.ok()) {
      ++native_count;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    }
  }
  EXPECT_EQ(native_count, 4);  // file, raw, qcow2, null-co
}

// QEMU refuses these, and does something else when they are left out: copies a whole chain,
// activates all nodes, listens without TLS.
TEST(BlockTypesTest, AnEmptyNameIsNotOneThatIsLeftOut) {
  const auto refused = [](auto message, const std::string& json) {
    return RefusedField(Read<decltype(message)>(json, Strictness::kRequest));
  };
  for (const char* const name : {"base", "base-node", "bottom"}) {
    const std::string field =
        refused(v1::BlockStreamRequest(), std::string(R"({"device":"d",")") + name + R"(":""})");
    EXPECT_EQ(field, name == std::string("base-node") ? "base_node" : name);
  }
  for (const char* const name : {"base", "base-node", "top", "top-node"}) {
    EXPECT_NE(
        refused(v1::BlockCommitRequest(), std::string(R"({"device":"d",")") + name + R"(":""})"),
        "");
  }
  EXPECT_EQ(refused(v1::BlockdevSetActiveRequest(), R"({"active":false,"node-name":""})"),
            "node_name");
  EXPECT_EQ(refused(v1::NbdServerStartRequest(),
                    R"({"addr":{"type":"unix","data":{"path":"/s"}},"tls-creds":""})"),
            "tls_creds");
  EXPECT_EQ(refused(v1::BlockdevSnapshotDeleteInternalSyncRequest(),
                    R"({"device":"d","name":"s","id":""})"),
            "id");
  EXPECT_EQ(refused(v1::BlockdevBackupRequest(),
                    R"({"device":"d","target":"t","sync":"full","bitmap":""})"),
            "bitmap");
  EXPECT_EQ(refused(v1::DriveBackupRequest(),
                    R"({"device":"d","target":"/t","sync":"full","format":""})"),
            "format");
  // Where "" says something of its own to QEMU, it gets it: a group of that name.
  Request<v1::BlockSetIoThrottleRequest>(
      R"({"id":"d","bps":0,"bps_rd":0,"bps_wr":0,"iops":0,"iops_rd":0,"iops_wr":0,"group":""})");
}

// Names of files down any message are seen by --image_root.
TEST(BlockTypesTest, FileNamesAreMarked) {
  const auto names = [](const google::protobuf::Message& message) {
    std::string seen;
    EXPECT_TRUE(backend::CheckPaths(message, [&seen](absl::string_view name, ::qmp::Path) {
                  seen += std::string(name) + " ";
                  return absl::OkStatus();
                }).ok());
    return seen;
  };
  EXPECT_EQ(names(Request<v1::BlockdevAddRequest>(
                R"({"node-name":"d","driver":"blkdebug","config":"/c","image":{"driver":"vvfat",)"
                R"("dir":"/v"}})")),
            "/c /v ");
  EXPECT_EQ(names(Request<v1::ObjectOptions>(R"({"qom-type":"secret","id":"s","file":"/f"})")),
            "/f ");
  EXPECT_EQ(
      names(Request<v1::ObjectOptions>(R"({"qom-type":"tls-creds-psk","id":"s","dir":"/k"})")),
      "/k ");
  EXPECT_EQ(names(Request<v1::BlockExportAddRequest>(
                R"({"id":"e","node-name":"d","type":"fuse","mountpoint":"/m"})")),
            "/m ");
  EXPECT_EQ(names(Request<v1::BlockdevAddRequest>(
                R"({"node-name":"d","driver":"nbd","server":{"type":"unix","path":"/s"}})")),
            "/s ");
}

}  // namespace
}  // namespace tidemark::qmp
