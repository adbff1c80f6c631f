#include "engine/base/file_places.h"

#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

class FilePlacesTest : public testing::Test {
 protected:
  static std::string MountInfo() {
    std::string path = testing::TempDir() + "/places_mountinfo";
    std::ofstream(path) << "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                           "30 22 0:45 / /mnt/nfs rw - nfs4 server:/export rw\n";
    return path;
  }
  FilePlaces places_{{"/images/", "/mnt/nfs/images", "/images/deep"}, MountInfo()};
};

TEST_F(FilePlacesTest, EachFileSystemIsAPlace) {
  EXPECT_EQ(places_.PlaceOf("/mnt/nfs/a"), places_.PlaceOf("/mnt/nfs/folder/b"));
  EXPECT_NE(places_.PlaceOf("/mnt/nfs/a"), places_.PlaceOf("/mnt/a"));
}

TEST_F(FilePlacesTest, EachRootIsAPlaceSinceItMayBeALink) {
  EXPECT_NE(places_.PlaceOf("/images/a"), places_.PlaceOf("/a"));
  EXPECT_NE(places_.PlaceOf("/images/deep/a"), places_.PlaceOf("/images/a"));
  EXPECT_NE(places_.PlaceOf("/mnt/nfs/images/a"), places_.PlaceOf("/mnt/nfs/a"));
  EXPECT_EQ(places_.PlaceOf("/images"), places_.PlaceOf("/images/a/b"));
  EXPECT_EQ(places_.PlaceOf("/imagesque"), places_.PlaceOf("/a"));
}

TEST_F(FilePlacesTest, EachDeviceIsAPlace) {
  EXPECT_NE(places_.PlaceOf("/dev/sda"), places_.PlaceOf("/dev/sdb"));
  EXPECT_NE(places_.PlaceOf("/dev/mapper/a"), places_.PlaceOf("/dev/mapper/b"));
  EXPECT_EQ(places_.PlaceOf("/dev/sda"), places_.PlaceOf("/dev//./sda"));
  EXPECT_EQ(places_.PlaceOf("/device/a"), places_.PlaceOf("/device/b"));
}

TEST_F(FilePlacesTest, DotsAndSlashesMakeNoDifference) {
  EXPECT_EQ(places_.PlaceOf("/images/./x/../a"), places_.PlaceOf("//images///b"));
  EXPECT_EQ(places_.PlaceOf("/images/../mnt/nfs/a"), places_.PlaceOf("/mnt/nfs/a"));
}

TEST_F(FilePlacesTest, EveryTextIsSomewhere) {
  EXPECT_EQ(places_.PlaceOf(""), places_.PlaceOf("relative"));
}

}  // namespace
}  // namespace tidemark
