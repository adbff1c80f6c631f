// QEMU's tools as clients: what they read, write and map through the server.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kDiskBytes = 16 * 1024 * 1024;

class QemuClientTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* tool : {"qemu-img", "qemu-io", "nbdinfo"}) {
      if (Run(absl::StrCat("command -v ", tool)).exit_code != 0) {
        GTEST_SKIP() << tool << " is not installed";
      }
    }
    Server::Options options;
    options.address = UnixAddress{"nbd.sock"};
    server_ = *Server::Start(options);
    bitmap_->Set({65536, 2 * 65536});
    Export exported;
    exported.name = "disk";
    exported.storage = disk_;
    exported.writable = true;
    exported.bitmaps = {{"b", bitmap_}};
    ASSERT_TRUE(server_->AddExport(exported).ok());
  }

  struct Outcome {
    int exit_code = -1;
    std::string output;
  };
  static Outcome Run(const std::string& command) {
    Outcome outcome;
    FILE* const pipe = popen(absl::StrCat(command, " 2>&1").c_str(), "r");
    if (pipe == nullptr) return outcome;
    char bytes[4096];
    size_t count;
    while ((count = fread(bytes, 1, sizeof(bytes), pipe)) > 0) outcome.output.append(bytes, count);
    outcome.exit_code = pclose(pipe);
    return outcome;
  }
  static void ExpectSuccess(const std::string& command) {
    const Outcome outcome = Run(command);
    EXPECT_EQ(outcome.exit_code, 0) << command << "\n" << outcome.output;
  }

  // The output of qemu-img map holds this stretch, with this member.
  static void ExpectMapped(const std::string& map, int start, int length,
                           const std::string& member) {
    const std::string begin = absl::StrCat("\"start\": ", start, ", \"length\": ", length, ",");
    const size_t at = map.find(begin);
    ASSERT_NE(at, std::string::npos) << begin << "\n" << map;
    const std::string line = map.substr(at, map.find('}', at) - at);
    EXPECT_TRUE(absl::StrContains(line, member)) << member << "\n" << line;
  }

  const std::string uri_ = "nbd+unix:///disk?socket=nbd.sock";
  TestFolder folder_;
  const std::shared_ptr<storage::MemoryStorage> disk_ =
      std::make_shared<storage::MemoryStorage>(kDiskBytes);
  const std::shared_ptr<bitmap::DirtyBitmap> bitmap_ =
      std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536);
  std::unique_ptr<Server> server_;
};

TEST_F(QemuClientTest, QemuIoWritesZeroesTrimsAndReadsBack) {
  ExpectSuccess(absl::StrCat(
      "qemu-io -f raw -c 'write -P 17 1M 2M' -c 'write -z -u 2M 512k' -c 'discard 1M 64k'",
      " -c 'write -f -P 18 5M 4k' -c flush -c 'read -P 17 1088k 960k' -c 'read -P 0 2M 512k'",
      " -c 'read -P 18 5M 4k' '", uri_, "'"));
  EXPECT_EQ(disk_->Contents({5 * 1024 * 1024, 4096}), std::string(4096, 18));
}

TEST_F(QemuClientTest, QemuImgCopiesTheDiskInAndOut) {
  {
    std::ofstream image("image.raw", std::ios::binary);
    for (uint64_t i = 0; i < 1024 * 1024; ++i) image.put(static_cast<char>(i * i >> 8));
  }
  std::filesystem::resize_file("image.raw", kDiskBytes);
  ExpectSuccess(absl::StrCat("qemu-img convert -n -f raw -O raw image.raw '", uri_, "'"));
  ExpectSuccess(absl::StrCat("qemu-img compare -f raw -F raw image.raw '", uri_, "'"));
  ExpectSuccess(absl::StrCat("qemu-img convert -f raw -O qcow2 '", uri_, "' copy.qcow2"));
  ExpectSuccess("qemu-img compare -f raw -F qcow2 image.raw copy.qcow2");
}

TEST_F(QemuClientTest, QemuImgMapsDataAndHoles) {
  ExpectSuccess(absl::StrCat("qemu-io -f raw -c 'write 1M 64k' '", uri_, "'"));
  const Outcome map = Run(absl::StrCat("qemu-img map -f raw --output=json '", uri_, "'"));
  EXPECT_EQ(map.exit_code, 0);
  for (const auto& [start, length, zero] :
       {std::tuple(0, 1048576, "true"), {1048576, 65536, "false"}, {1114112, 15663104, "true"}}) {
    ExpectMapped(map.output, start, length, absl::StrCat("\"zero\": ", zero));
  }
}

TEST_F(QemuClientTest, QemuImgShowsABitmapTheWayQemuDoesWithDirtyStretchesAsNoData) {
  const Outcome map =
      Run("qemu-img map --output=json --image-opts driver=nbd,server.type=unix,"
          "server.path=nbd.sock,export=disk,x-dirty-bitmap=qemu:dirty-bitmap:b");
  EXPECT_EQ(map.exit_code, 0);
  for (const auto& [start, length, data] :
       {std::tuple(0, 65536, "true"), {65536, 131072, "false"}, {196608, 16580608, "true"}}) {
    ExpectMapped(map.output, start, length, absl::StrCat("\"data\": ", data));
  }
}

TEST_F(QemuClientTest, NbdinfoSeesTheExportAndItsContexts) {
  const Outcome info = Run(absl::StrCat("nbdinfo '", uri_, "'"));
  EXPECT_EQ(info.exit_code, 0);
  for (const char* line :
       {"newstyle-fixed", "structured", "qemu:dirty-bitmap:b", "can_multi_conn: true"}) {
    EXPECT_TRUE(absl::StrContains(info.output, line)) << line << "\n" << info.output;
  }
}

}  // namespace
}  // namespace tidemark::nbd
