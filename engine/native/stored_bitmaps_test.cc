// Persistent bitmaps that cannot be stored, or not all, cost nobody their data.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/native/native_backend_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/bitmap.pb.h"

namespace tidemark::native {
namespace {

using StoredBitmapsTest = NativeBackendTest;

// No file may grow while it lives.
class NoFileGrows {
 public:
  explicit NoFileGrows(const std::string& path) {
    struct stat file;
    EXPECT_EQ(stat(path.c_str(), &file), 0);
    EXPECT_EQ(getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit now = {static_cast<rlim_t>(file.st_size), before_.rlim_max};
    handler_before_ = signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &now), 0);
  }
  ~NoFileGrows() {
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before_), 0);
    signal(SIGXFSZ, handler_before_);
  }

 private:
  rlimit before_ = {};
  void (*handler_before_)(int) = SIG_DFL;
};

TEST_F(StoredBitmapsTest, ANodeWhoseBitmapsCannotBeStoredStaysUntilTheyCan) {
  CreateImage("disk");
  AddImage("disk", "disk");
  for (const std::string name : {"one", "two"}) {
    CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
        absl::StrCat("node: 'disk' name: '", name, "' persistent: true"));
  }
  StartServer();
  Export("disk", true);
  {
    NbdClient guest(folder_ + "/nbd", "disk");
    guest.Fill('a', 3 * kClusterBytes, kClusterBytes);
  }
  CallOk<NbdServerStopRequest, NbdServerStopResponse>("");
  {
    const NoFileGrows full(folder_ + "/disk");
    const auto refused = Call<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'disk'");
    EXPECT_FALSE(refused.ok());
    EXPECT_THAT(std::string(refused.status().message()), testing::HasSubstr("stays"));
  }
  EXPECT_EQ(NodeOf("disk").dirty_bitmaps_size(), 2);
  // It goes on as before, and all is there when it goes.
  StartServer();
  Export("disk", true);
  {
    NbdClient guest(folder_ + "/nbd", "disk");
    guest.Fill('b', 5 * kClusterBytes, kClusterBytes);
  }
  CallOk<NbdServerStopRequest, NbdServerStopResponse>("");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'disk'");
  AddImage("disk", "disk");
  const BlockDeviceInfo disk = NodeOf("disk");
  ASSERT_EQ(disk.dirty_bitmaps_size(), 2) << disk.DebugString();
  for (const BlockDirtyInfo& bitmap : disk.dirty_bitmaps()) {
    EXPECT_FALSE(bitmap.inconsistent());
    EXPECT_EQ(bitmap.count(), int64_t{2 * kClusterBytes});
  }
}

TEST_F(StoredBitmapsTest, AnEndThatCannotStoreThemSaysSo) {
  CreateImage("disk");
  AddImage("disk", "disk");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'disk' name: 'one' persistent: true");
  const NoFileGrows full(folder_ + "/disk");
  backend_->Shutdown();
  EXPECT_FALSE(backend_->gave_up());
  EXPECT_TRUE(backend_->has_lost());
}

TEST_F(StoredBitmapsTest, AnEndThatStoresThemHasLostNothing) {
  CreateImage("disk");
  AddImage("disk", "disk");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'disk' name: 'one' persistent: true");
  backend_->Shutdown();
  EXPECT_FALSE(backend_->has_lost());
}

TEST_F(StoredBitmapsTest, NineEmptyBitmapsOfAHugeDiskAreOpenedAndATenthIsRefusedAtOnce) {
  if (system("qemu-img --version > /dev/null") != 0) GTEST_SKIP() << "qemu-img is not installed";
  const std::string image = folder_ + "/disk";
  ASSERT_EQ(system(absl::StrCat("qemu-img create -q -f qcow2 ", image, " 64T").c_str()), 0);
  for (int i = 0; i < 9; ++i) {
    ASSERT_EQ(system(absl::StrCat("qemu-img bitmap --add ", image, " b", i).c_str()), 0);
  }
  AddImage("disk", "disk");
  EXPECT_EQ(NodeOf("disk").dirty_bitmaps_size(), 9);
  // Once they are mixed everywhere they could not be stored together.
  const auto tenth = Call<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'disk' name: 'b9' persistent: true");
  ASSERT_TRUE(DetailsOf(tenth.status()).has_value()) << tenth.status();
  EXPECT_EQ(DetailsOf(tenth.status())->reason, Reason::kLimitReached);
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'disk'");
  AddImage("disk", "disk");
  const auto disk = NodeOf("disk");
  EXPECT_EQ(disk.dirty_bitmaps_size(), 9);
  for (const BlockDirtyInfo& bitmap : disk.dirty_bitmaps()) {
    EXPECT_FALSE(bitmap.inconsistent());
  }
}

}  // namespace
}  // namespace tidemark::native
