// No file is emptied that somebody has begun to use, however late that was.
#include <atomic>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/path_policy.h"
#include "engine/native/native_backend_world.h"
#include "engine/storage/machine_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::native {
namespace {

// Does something once, before a file is touched for the second time.
class InterruptedFiles final : public storage::FileSystem {
 public:
  InterruptedFiles(std::string path, std::function<void()> interrupt)
      : path_(std::move(path)), interrupt_(std::move(interrupt)) {}

  absl::StatusOr<std::shared_ptr<storage::File>> Open(
      const std::string& path, const storage::FileOptions& options) override {
    OnTouch(path);
    return files_.Open(path, options);
  }
  absl::Status Create(const std::string& path, uint64_t size_bytes,
                      storage::Preallocation preallocation,
                      const std::atomic<bool>* cancelled) override {
    OnTouch(path);
    return files_.Create(path, size_bytes, preallocation, cancelled);
  }
  absl::StatusOr<std::string> ReadBeginning(const std::string& path, size_t bytes_max) override {
    return files_.ReadBeginning(path, bytes_max);
  }

 private:
  void OnTouch(const std::string& path) {
    if (path == path_ && ++touches_ == 2) interrupt_();
  }

  storage::MachineFiles files_{PathPolicy()};
  const std::string path_;
  const std::function<void()> interrupt_;
  std::atomic<int> touches_ = 0;
};

class CreateRaceTest : public NativeBackendTest {
 protected:
  void SetUp() override {
    std::ofstream(folder_ + "/disk") << std::string(kClusterBytes, 'd');
    backend_ = nullptr;
    auto files = std::make_shared<InterruptedFiles>(folder_ + "/disk", [this] {
      CallOk<BlockdevAddRequest, BlockdevAddResponse>(
          "options { node_name: 'late' raw { file { definition { file { filename: '$F/disk' } } } "
          "} }");
    });
    backend_ = std::make_unique<NativeBackend>(
        NativeBackend::Options{.version = "test", .files = std::move(files)}, &log_,
        &SystemClock());
  }
  std::string Contents() const {
    std::ifstream file(folder_ + "/disk");
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
};

TEST_F(CreateRaceTest, ADiskThatIsAddedMeanwhileIsNotEmptied) {
  CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
      "job_id: 'f' options { file { filename: '$F/disk' size: 0 } }");
  WaitForJob("f", JOB_STATUS_CONCLUDED);
  const auto jobs = Call<QueryJobsRequest, QueryJobsResponse>("");
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  ASSERT_EQ(jobs->jobs_size(), 1);
  EXPECT_THAT(jobs->jobs(0).error(), testing::HasSubstr("late"));
  EXPECT_EQ(Contents(), std::string(kClusterBytes, 'd'));
}

}  // namespace
}  // namespace tidemark::native
