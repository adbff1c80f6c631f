// What an image names is not opened by a guess at its format, even if the image is another one by
// the time that it is opened.
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/path_policy.h"
#include "engine/native/native_backend_world.h"
#include "engine/storage/machine_files.h"
#include "gmock/gmock.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::native {
namespace {

// Does something before a file is opened for the second time.
class ChangingFiles final : public storage::FileSystem {
 public:
  ChangingFiles(std::string path, std::function<void()> change)
      : path_(std::move(path)), change_(std::move(change)) {}

  absl::StatusOr<std::shared_ptr<storage::File>> Open(
      const std::string& path, const storage::FileOptions& options) override {
    if (path == path_ && ++opens_ == 2) change_();
    return files_.Open(path, options);
  }
  absl::Status Create(const std::string& path, uint64_t size_bytes,
                      storage::Preallocation preallocation,
                      const std::atomic<bool>* cancelled) override {
    return files_.Create(path, size_bytes, preallocation, cancelled);
  }
  absl::StatusOr<std::string> ReadBeginning(const std::string& path, size_t bytes_max) override {
    return files_.ReadBeginning(path, bytes_max);
  }

 private:
  storage::MachineFiles files_{PathPolicy()};
  const std::string path_;
  const std::function<void()> change_;
  int opens_ = 0;
};

// "guessed" becomes an image whose header names "secret".
class FormatChoiceTest : public NativeBackendTest {
 protected:
  void SetUp() override {
    CreateImage("guessed");
    CreateImage("source");
    Overlay("traitor", "secret", "backing_fmt: BLOCKDEV_DRIVER_RAW");
    Overlay("overlay", "guessed", "");
    ASSERT_EQ(system(absl::StrCat("truncate -s 8M ", folder_, "/secret").c_str()), 0);
    backend_ = nullptr;
    auto files = std::make_shared<ChangingFiles>(folder_ + "/guessed", [this] {
      std::filesystem::rename(folder_ + "/traitor", folder_ + "/guessed");
    });
    backend_ = std::make_unique<NativeBackend>(
        NativeBackend::Options{.version = "test", .probe_formats = true, .files = std::move(files)},
        &log_, &SystemClock());
  }
  // Without `format` the header says nothing of it: qemu-img would not make such an image.
  void Overlay(const std::string& name, const std::string& backing, const std::string& format) {
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'f' options { file { filename: '$F/", name, "' size: 0 } }"));
    WaitForJob("f", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'f'");
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(absl::StrCat(
        "job_id: 'q' options { qcow2 { file { definition { file { filename: '$F/", name,
        "' } } } size: ", kDiskBytes, " backing_file: '$F/", backing, "' ", format, " } }"));
    WaitForJob("q", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'q'");
  }
  void ExpectThatTheSecretIsClosed() {
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/traitor")) << "nothing was changed";
    const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("");
    ASSERT_TRUE(nodes.ok()) << nodes.status();
    for (const BlockDeviceInfo& node : nodes->nodes()) {
      EXPECT_THAT(node.file(), testing::Not(testing::HasSubstr("secret")));
    }
  }
};

TEST_F(FormatChoiceTest, ABackingImageThatIsChangedBehindAGuessBringsNothingAlong) {
  AddImage("disk", "overlay");
  ExpectThatTheSecretIsClosed();
}

TEST_F(FormatChoiceTest, ATargetThatIsChangedBehindAGuessBringsNothingAlong) {
  AddImage("disk", "source");
  CallOk<DriveBackupRequest, DriveBackupResponse>(
      "job_id: 'j' device: 'disk' target: '$F/guessed' mode: NEW_IMAGE_MODE_EXISTING "
      "sync: MIRROR_SYNC_MODE_FULL speed: 1");
  ExpectThatTheSecretIsClosed();
}

}  // namespace
}  // namespace tidemark::native
