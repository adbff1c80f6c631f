// Disks that change their size, and all that shows them: nodes above, windows, exports, bitmaps.
#include <unistd.h>

#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

constexpr v1::ErrorReason kConflict = v1::ERROR_REASON_PERMISSION_CONFLICT;

class ResizeScenarios : public Conformance {
 protected:
  std::string PathOf(const std::string& node) { return folder().File(node + ".raw"); }
  // The node "file0" over a file of its own, and the raw node "disk0" over that.
  void CreateRawOverNamedFile() {
    Image::Create(PathOf("file0"), kDiskBytes, "raw");
    operate().Do(Add(FileOptions(PathOf("file0"), "file0")));
    operate().Do(Add(RawOver("disk0", "file0")));
  }
  static v1::BlockdevOptions RawOver(const std::string& node, const std::string& file) {
    v1::BlockdevOptions options;
    options.set_node_name(node);
    options.mutable_raw()->mutable_file()->set_reference(file);
    return options;
  }
  uint64_t SizeOf(const std::string& node) { return operate().Node(node).image().virtual_size(); }
  void BackUpByBitmap(const std::string& job, uint64_t size_bytes) {
    const std::string target = job + "-target";
    Image::Create(PathOf(target), size_bytes, "raw");
    operate().Do(Add(FileOptions(PathOf(target), target)));
    BackupOptions options;
    options.job = job;
    options.target = target;
    options.sync = kBitmap;
    options.bitmap = "b0";
    options.mode = kOnSuccess;
    operate().Do(Backup(options));
    operate().Finish(job);
    operate().Do(Del(target));
  }
};

ON_EVERY_BACKEND(ResizeScenarios);

TEST_P(ResizeScenarios, ANodeAboveAResizedFileFollowsWithItsBitmaps) {
  CreateRawOverNamedFile();
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(100, 1));
  Unplug();
  operate().Do(Resize("file0", 2 * kDiskBytes));
  EXPECT_EQ(SizeOf("disk0"), 2 * kDiskBytes);
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(100, 1)});
  operate().Do(BitmapAdd("disk0", "new"));
  operate().Do(BitmapMerge("disk0", "new", {"b0"}));
  BackUpByBitmap("grown", 2 * kDiskBytes);
  operate().Do(BitmapMerge("disk0", "b0", {"new"}));
  operate().Do(Resize("file0", kDiskBytes / 2));
  operate().Do(Resize("file0", kDiskBytes));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{}) << "what was cut off is forgotten";
  BackUpByBitmap("cut", kDiskBytes);
}

TEST_P(ResizeScenarios, TheFileBelowAResizedNodeFollowsWithItsBitmaps) {
  CreateRawOverNamedFile();
  operate().Do(BitmapAdd("disk0", "b0"));
  operate().Do(BitmapAdd("file0", "below"));
  guest().Write(1, Clusters(100, 1));
  Unplug();
  operate().Do(Resize("disk0", 2 * kDiskBytes));
  EXPECT_EQ(SizeOf("file0"), 2 * kDiskBytes);
  EXPECT_EQ(operate().Marks("file0", "below"), Ranges{Clusters(100, 1)});
  operate().Do(BitmapMerge("disk0", "b0", {"file0:below"}));
  BackUpByBitmap("grown", 2 * kDiskBytes);
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{});
}

TEST_P(ResizeScenarios, AWindowOnAFileForbidsToResizeIt) {
  Image::Create(PathOf("file0"), kDiskBytes, "raw");
  operate().Do(Add(FileOptions(PathOf("file0"), "file0")));
  v1::BlockdevOptions window = RawOver("disk0", "file0");
  window.mutable_raw()->set_offset(kMiB);
  operate().Do(Add(window));
  ExpectRefused(Resize("file0", 2 * kDiskBytes), kConflict, {"file0", "disk0"});
  operate().Do(BitmapAdd("disk0", "b0"));
  // The window itself may, without a size of its own.
  operate().Do(Resize("disk0", 2 * kDiskBytes));
  EXPECT_EQ(SizeOf("file0"), 2 * kDiskBytes + kMiB);
  BackUpByBitmap("grown", 2 * kDiskBytes);
  operate().Do(Del("disk0"));

  window.mutable_raw()->set_size(kMiB);
  operate().Do(Add(window));
  ExpectRefused(Resize("file0", 3 * kDiskBytes), kConflict, {"file0", "disk0"});
  EXPECT_FALSE(operate().Try(Resize("disk0", 2 * kMiB)).ok());
  EXPECT_EQ(SizeOf("disk0"), kMiB);
}

TEST_P(ResizeScenarios, AnImageForbidsToResizeItsFile) {
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  operate().Do(Add(FileOptions(operate().FileOf("disk0"), "file0")));
  v1::BlockdevOptions image;
  image.set_node_name("disk0");
  image.mutable_qcow2()->mutable_file()->set_reference("file0");
  operate().Do(Add(image));
  operate().Do(BitmapAdd("file0", "below"));
  ExpectRefused(Resize("file0", 2 * kDiskBytes), kConflict, {"file0", "disk0"});
  EXPECT_EQ(SizeOf("disk0"), kDiskBytes);
}

TEST_P(ResizeScenarios, AnExportAboveForbidsToResizeTheFile) {
  CreateRawOverNamedFile();
  guest().Write(1, Clusters(0, 1));
  ExpectRefused(Resize("file0", 2 * kDiskBytes), kConflict, {"file0"});
  Unplug();
  operate().Do(Resize("file0", 2 * kDiskBytes));
}

// As a volume that was extended: asked for the size that it has, the engine looks again.
TEST_P(ResizeScenarios, AFileThatWasGrownByOthersIsTakenOver) {
  CreateRawOverNamedFile();
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(7, 1));
  Unplug();
  ASSERT_EQ(truncate(PathOf("file0").c_str(), 2 * kDiskBytes), 0);
  EXPECT_EQ(SizeOf("disk0"), kDiskBytes);
  operate().Do(Resize("disk0", 2 * kDiskBytes));
  EXPECT_EQ(SizeOf("disk0"), 2 * kDiskBytes);
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(7, 1)});
  BackUpByBitmap("grown", 2 * kDiskBytes);
}

// What is made in a file changes the file's size, under all who show it.
TEST_P(ResizeScenarios, NoImageIsMadeInAFileThatANodeShows) {
  CreateRawOverNamedFile();
  operate().Do(BitmapAdd("disk0", "b0"));
  v1::BlockdevCreateRequest create;
  create.set_job_id("create0");
  auto* const image = create.mutable_options()->mutable_qcow2();
  image->mutable_file()->set_reference("file0");
  image->set_size(kDiskBytes);
  operate().Do(create);
  operate().AwaitStatus("create0", v1::JOB_STATUS_CONCLUDED);
  EXPECT_NE(operate().QueriedJob("create0").error().find("disk0"), std::string::npos);
  operate().Do(OfJob<v1::JobDismissRequest>("create0"));
  EXPECT_EQ(SizeOf("disk0"), kDiskBytes);
  EXPECT_EQ(SizeOf("file0"), kDiskBytes);
  BackUpByBitmap("same", kDiskBytes);
}

}  // namespace
}  // namespace tidemark::test
