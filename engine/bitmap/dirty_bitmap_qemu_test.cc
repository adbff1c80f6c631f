// The digest against the real thing: the same random writes go to a bitmap of ours and, through
// qemu-io and NBD, to a node of qemu-storage-daemon that has one of QEMU's.
#include <unistd.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/storage/external_tool.h"
#include "gtest/gtest.h"

namespace tidemark::bitmap {
namespace {

using storage::BackgroundTool;
using storage::HaveTool;
using storage::RunTool;
using storage::TestPath;
using storage::ToolResult;

class DigestOfQemu : public testing::Test {
 protected:
  void SetUp() override {
    if (!HaveTool("qemu-storage-daemon") || !HaveTool("qemu-io")) {
      GTEST_SKIP() << "qemu-storage-daemon and qemu-io are not installed";
    }
  }

  // The answer of one command; empty if the program has ended.
  std::string Ask(BackgroundTool& daemon, const std::string& command) {
    daemon.Write(command + "\n");
    return daemon.ReadUntil("}\r\n");
  }

  std::string DigestAfter(uint64_t size_bytes, uint64_t granularity_bytes,
                          const std::vector<Range>& writes) {
    // Short: a socket's path has at most 107 bytes.
    const std::string socket = absl::StrCat("/tmp/tidemark-digest-", getpid());
    BackgroundTool daemon(
        {"qemu-storage-daemon", "--chardev", "stdio,id=c", "--monitor", "chardev=c", "--blockdev",
         absl::StrCat("driver=null-co,node-name=n,size=", size_bytes), "--nbd-server",
         "addr.type=unix,addr.path=" + socket, "--export", "nbd,id=e,node-name=n,writable=on"});
    EXPECT_NE(daemon.ReadUntil("}\r\n"), "");
    Ask(daemon, R"({"execute":"qmp_capabilities"})");
    Ask(daemon, absl::StrCat(R"({"execute":"block-dirty-bitmap-add","arguments":{"node":"n",)",
                             R"("name":"b","granularity":)", granularity_bytes, "}}"));
    std::vector<std::string> client = {"qemu-io", "-f", "raw", "nbd+unix:///n?socket=" + socket};
    for (Range write : writes) {
      client.push_back("-c");
      client.push_back(absl::StrCat("write ", write.offset_bytes, " ", write.length_bytes));
    }
    if (!writes.empty()) {
      const ToolResult result = RunTool(client);
      EXPECT_EQ(result.exit_code, 0) << result.output;
    }
    const std::string answer = Ask(
        daemon,
        R"({"execute":"x-debug-block-dirty-bitmap-sha256","arguments":{"node":"n","name":"b"}})");
    unlink(socket.c_str());
    const std::string key = "\"sha256\": \"";
    const size_t at = answer.find(key);
    return at == std::string::npos ? answer : answer.substr(at + key.size(), 64);
  }
};

TEST_F(DigestOfQemu, IsOurs) {
  struct Geometry {
    uint64_t size_bytes;
    uint64_t granularity_bytes;
  };
  const Geometry geometries[] = {
      {1 << 20, 65536}, {63 * 512, 512}, {8 << 20, 512}, {(1 << 30) + 512, 65536}, {4096, 1u << 31},
  };
  std::mt19937_64 random(11);
  for (const Geometry& geometry : geometries) {
    DirtyBitmap bitmap(geometry.size_bytes, geometry.granularity_bytes);
    std::vector<Range> writes;
    for (int i = 0; i < 20; ++i) {
      const uint64_t sector = random() % (geometry.size_bytes / 512);
      writes.push_back({sector * 512, 512});
      bitmap.Set(writes.back());
    }
    EXPECT_EQ(bitmap.Sha256(), DigestAfter(geometry.size_bytes, geometry.granularity_bytes, writes))
        << geometry.size_bytes << " by " << geometry.granularity_bytes;
  }
}

}  // namespace
}  // namespace tidemark::bitmap
