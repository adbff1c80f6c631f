#include "engine/base/mount_table.h"

#include <stdio.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr char kMountInfo[] =
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 22 0:45 / /mnt/nfs rw shared:2 - nfs4 server:/export rw\n"
    "31 22 0:46 / /mnt/nfs2 rw - nfs4 server:/other rw\n"
    "32 30 0:47 / /mnt/nfs/a\\040b rw - fuse.x x rw\n";

TEST(MountTable, MountPointsAreReadWithWhatIsEscaped) {
  EXPECT_THAT(MountTable::Parse(kMountInfo),
              ElementsAre("/", "/mnt/nfs", "/mnt/nfs2", "/mnt/nfs/a b"));
  EXPECT_THAT(MountTable::Parse("nonsense\n1 2 3 4\n1 2 3 4 relative rw\n\n"), IsEmpty());
  EXPECT_THAT(MountTable::Parse("1 2 3:4 / /odd\\ rw"), ElementsAre("/odd\\"));
}

TEST(MountTable, TheLongestMountPointCountsAndOnlyWholeNames) {
  const std::string path = testing::TempDir() + "/mountinfo";
  FILE* const file = fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  fputs(kMountInfo, file);
  fclose(file);
  MountTable table(path);
  EXPECT_EQ(table.MountPointOf("/mnt/nfs/disk"), "/mnt/nfs");
  EXPECT_EQ(table.MountPointOf("/mnt/nfs2/disk"), "/mnt/nfs2");
  EXPECT_EQ(table.MountPointOf("/mnt/nfs3/disk"), "/");
  EXPECT_EQ(table.MountPointOf("/mnt/nfs/a b/disk"), "/mnt/nfs/a b");
  EXPECT_EQ(table.MountPointOf("/mnt/nfs"), "/mnt/nfs");
  EXPECT_EQ(table.MountPointOf("relative"), "/");
}

TEST(MountTable, ThisMachineHasOne) {
  MountTable table;
  EXPECT_EQ(table.MountPointOf("/proc/self"), "/proc");
}

TEST(MountTable, WithoutATableAllIsOnePlace) {
  MountTable table("/nonexistent");
  EXPECT_EQ(table.MountPointOf("/proc/self"), "/");
}

}  // namespace
}  // namespace tidemark
