// File names in requests: what is refused before an engine sees it.
#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/device.pb.h"
#include "tidemark/block/v1/mirror.pb.h"
#include "tidemark/block/v1/node.grpc.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::BlockdevAddRequest AddFile(const std::string& filename) {
  v1::BlockdevAddRequest request;
  request.mutable_options()->set_node_name("n");
  request.mutable_options()->mutable_file()->set_filename(filename);
  return request;
}

TEST(Front, FilesOutsideTheImageRootsAreRefusedAlsoThroughLinks) {
  Folder images;
  std::filesystem::create_directory(images / "root");
  std::filesystem::create_symlink("/etc", images / "root/link");
  FrontWorld world({}, *PathPolicy::Create({images / "root"}));
  world.fake->mutable_capabilities().engine = backend::EngineKind::kQemu;
  const auto stub = v1::NodeService::NewStub(world.channel);
  for (const std::string& path : {std::string("/etc/passwd"), images / "root/link/passwd",
                                  images / "root/../secret", images / "root/link/new"}) {
    grpc::ClientContext context;
    v1::BlockdevAddResponse response;
    const grpc::Status status = stub->BlockdevAdd(&context, AddFile(path), &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << path;
    EXPECT_EQ(InfoOf(status).reason(), "PATH_FORBIDDEN");
    EXPECT_TRUE(absl::StrContains(status.error_message(), path)) << status.error_message();
    EXPECT_TRUE(absl::StrContains(status.error_message(), images / "root"));
  }
  EXPECT_THAT(world.fake->calls(), IsEmpty());
  grpc::ClientContext context;
  v1::BlockdevAddResponse response;
  EXPECT_TRUE(stub->BlockdevAdd(&context, AddFile(images / "root/disk.img"), &response).ok());
  EXPECT_THAT(world.fake->calls(), ElementsAre("blockdev-add"));
}

TEST(Front, NamesThatNoFileCanHaveAreRefusedWithoutALook) {
  Folder images;
  FrontWorld world({}, *PathPolicy::Create({images / ""}));
  const auto stub = v1::NodeService::NewStub(world.channel);
  for (const std::string& path : {std::string("/a\0b", 4), "/" + std::string(5000, 'x')}) {
    grpc::ClientContext context;
    v1::BlockdevAddResponse response;
    const grpc::Status status = stub->BlockdevAdd(&context, AddFile(path), &response);
    EXPECT_EQ(InfoOf(status).reason(), "INVALID_FIELD") << status.error_message();
  }
  EXPECT_THAT(world.fake->calls(), IsEmpty());
}

// QEMU would open whatever a file that a guest has written names.
TEST(Front, AConfinedVirtualMachineIsNotLeftToGuessFormats) {
  Folder images;
  FrontWorld world({}, *PathPolicy::Create({images / ""}));
  world.fake->mutable_capabilities().engine = backend::EngineKind::kQemu;
  v1::DriveMirrorRequest mirror;
  mirror.set_job_id("j");
  mirror.set_device("d");
  mirror.set_target(images / "target");
  mirror.set_sync(v1::MIRROR_SYNC_MODE_FULL);
  mirror.set_mode(v1::NEW_IMAGE_MODE_EXISTING);
  v1::DriveBackupRequest backup;
  backup.set_device("d");
  backup.set_target(images / "target");
  backup.set_sync(v1::MIRROR_SYNC_MODE_FULL);
  backup.set_mode(v1::NEW_IMAGE_MODE_EXISTING);
  v1::TransactionRequest transaction;
  *transaction.add_actions()->mutable_drive_backup() = backup;
  v1::BlockdevChangeMediumRequest medium;
  medium.set_id("cd0");
  medium.set_filename(images / "medium");
  const auto refused = [&](const std::string& method, const google::protobuf::Message& request) {
    const grpc::Status status =
        CallRaw(world, "/tidemark.block.v1." + method, request.SerializeAsString());
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_EQ(InfoOf(status).reason(), "INVALID_COMBINATION") << status.error_message();
    EXPECT_TRUE(absl::StrContains(status.error_message(), "--probe_formats"));
    return InfoOf(status).metadata().at("field");
  };
  EXPECT_EQ(refused("JobService/DriveMirror", mirror), "format");
  EXPECT_EQ(refused("JobService/DriveBackup", backup), "format");
  EXPECT_EQ(refused("TransactionService/Transaction", transaction),
            "actions[0].drive_backup.format");
  EXPECT_EQ(refused("DeviceService/BlockdevChangeMedium", medium), "format");
  EXPECT_THAT(world.fake->calls(), IsEmpty());
  mirror.set_format("raw");
  CallRaw(world, "/tidemark.block.v1.JobService/DriveMirror", mirror.SerializeAsString());
  mirror.clear_format();
  mirror.clear_mode();  // QEMU makes it, in the format of the source.
  CallRaw(world, "/tidemark.block.v1.JobService/DriveMirror", mirror.SerializeAsString());
  EXPECT_THAT(world.fake->calls(), ElementsAre("drive-mirror", "drive-mirror"));
}

TEST(Front, AVirtualMachineThatIsNotConfinedMayGuess) {
  FrontWorld world;
  world.fake->mutable_capabilities().engine = backend::EngineKind::kQemu;
  v1::BlockdevChangeMediumRequest medium;
  medium.set_id("cd0");
  medium.set_filename("/medium");
  CallRaw(world, "/tidemark.block.v1.DeviceService/BlockdevChangeMedium",
          medium.SerializeAsString());
  EXPECT_THAT(world.fake->calls(), ElementsAre("blockdev-change-medium"));
}

}  // namespace
}  // namespace tidemark::rpc
