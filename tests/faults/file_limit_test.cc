// A file that may not grow (`ulimit -f`), for which the kernel sends a signal that kills: to a
// guest it is an error of its write, and nothing else.
#include <libnbd.h>
#include <signal.h>
#include <sys/resource.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

constexpr size_t kDiskBytes = 1 << 20;
constexpr rlim_t kFileBytesMax = kDiskBytes / 2;
constexpr size_t kBlockBytes = 4096;

TEST(FileLimit, AGuestsWriteBeyondItFailsAndTheExportLives) {
  const TempFolder folder;
  Daemon daemon(&folder);
  ASSERT_TRUE(daemon.started()) << daemon.Log();
  WriteFile(folder.File("disk"), std::string(kDiskBytes, 'a'));
  Client client(daemon.address());
  v1::BlockdevAddRequest add;
  add.mutable_options()->set_node_name("disk");
  add.mutable_options()->mutable_file()->set_filename(folder.File("disk"));
  ASSERT_TRUE(client.Invoke(add).ok());
  ASSERT_TRUE(client.Invoke(NbdStart(folder.File("nbd"))).ok());
  ASSERT_TRUE(client.Invoke(ExportAdd("export", "disk", /*writable=*/true)).ok());
  const std::unique_ptr<nbd_handle, decltype(&nbd_close)> guest(nbd_create(), &nbd_close);
  const std::string uri = absl::StrCat("nbd+unix:///disk?socket=", folder.File("nbd"));
  ASSERT_EQ(nbd_connect_uri(guest.get(), uri.c_str()), 0) << nbd_get_error();

  const rlimit limit{kFileBytesMax, kFileBytesMax};
  ASSERT_EQ(prlimit(daemon.process().pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  std::string block(kBlockBytes, 'b');
  EXPECT_EQ(nbd_pwrite(guest.get(), block.data(), block.size(), kFileBytesMax, 0), -1)
      << "it lies beyond the limit";
  EXPECT_EQ(nbd_pwrite(guest.get(), block.data(), block.size(), 0, 0), 0) << nbd_get_error();
  ASSERT_EQ(nbd_pread(guest.get(), block.data(), block.size(), 0, 0), 0) << nbd_get_error();
  EXPECT_EQ(block, std::string(kBlockBytes, 'b'));
  ASSERT_EQ(nbd_pread(guest.get(), block.data(), block.size(), kFileBytesMax, 0), 0);
  EXPECT_EQ(block, std::string(kBlockBytes, 'a')) << "nothing of it was written";
  EXPECT_TRUE(daemon.process().running()) << daemon.Log();
}

}  // namespace
}  // namespace tidemark::test
