// Creating images: what the job makes, and how it fails.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class CreateScenarios : public Conformance {
 protected:
  v1::BlockdevCreateRequest CreateFile(const std::string& path, uint64_t size_bytes) {
    v1::BlockdevCreateRequest request;
    request.set_job_id("make");
    request.mutable_options()->mutable_file()->set_filename(path);
    request.mutable_options()->mutable_file()->set_size(size_bytes);
    return request;
  }
  v1::BlockdevCreateRequest CreateQcow2(const std::string& node, uint64_t size_bytes) {
    v1::BlockdevCreateRequest request;
    request.set_job_id("make");
    request.mutable_options()->mutable_qcow2()->mutable_file()->set_reference(node);
    request.mutable_options()->mutable_qcow2()->set_size(size_bytes);
    return request;
  }
  // Runs the job; the error it ends with.
  std::string ErrorOf(const v1::BlockdevCreateRequest& request) {
    ++runs_;
    operate().Do(request);
    EXPECT_TRUE(events().WaitForStatusTimes("make", v1::JOB_STATUS_CONCLUDED, runs_));
    const std::string error = operate().QueriedJob("make").error();
    operate().Do(OfJob<v1::JobDismissRequest>("make"));
    return error;
  }
  // An empty file behind the protocol node "below".
  void AddBelow(const std::string& path) {
    EXPECT_EQ(ErrorOf(CreateFile(path, 0)), "");
    operate().Do(Add(FileOptions(path, "below")));
  }

 private:
  int runs_ = 0;
};

TEST_P(CreateScenarios, AFileOfTheSizeAskedFor) {
  EXPECT_EQ(ErrorOf(CreateFile(folder().File("made"), 3 * kMiB + 512)), "");
  EXPECT_EQ(ReadFile(folder().File("made")), std::string(3 * kMiB + 512, '\0'));
}

TEST_P(CreateScenarios, AFileThatExistsIsEmptied) {
  WriteFile(folder().File("made"), "old bytes");
  EXPECT_EQ(ErrorOf(CreateFile(folder().File("made"), 4096)), "");
  EXPECT_EQ(ReadFile(folder().File("made")), std::string(4096, '\0'));
}

TEST_P(CreateScenarios, AQcow2ImageInLayers) {
  AddBelow(folder().File("made.qcow2"));
  EXPECT_EQ(ErrorOf(CreateQcow2("below", kDiskBytes)), "");
  v1::BlockdevOptions options = Qcow2Options("made", "");
  options.mutable_qcow2()->mutable_file()->set_reference("below");
  operate().Do(Add(options));
  guest("made").Write(1, Clusters(0, 3));
  Unplug("made");
  operate().Detach("made");
  operate().Detach("below");
  EXPECT_THAT(Image(folder().File("made.qcow2")), IsSound());
  EXPECT_THAT(Image(folder().File("made.qcow2")).Contents(), HoldsSameAs(ModelOf("made")->bytes()));
  EXPECT_EQ(Image(folder().File("made.qcow2")).Info("/format-specific/data/compat"), "1.1");
}

TEST_P(CreateScenarios, EveryOptionOfQcow2) {
  Image::Create(operate().FileOf("base"), kDiskBytes);
  AddBelow(folder().File("made.qcow2"));
  v1::BlockdevCreateRequest request = CreateQcow2("below", kDiskBytes);
  v1::BlockdevCreateOptionsQcow2* options = request.mutable_options()->mutable_qcow2();
  options->set_cluster_size(4096);
  options->set_refcount_bits(64);
  options->set_lazy_refcounts(true);
  options->set_compression_type(v1::QCOW2_COMPRESSION_TYPE_ZSTD);
  options->set_backing_file("base.qcow2");
  options->set_backing_fmt(v1::BLOCKDEV_DRIVER_QCOW2);
  EXPECT_EQ(ErrorOf(request), "");
  operate().Detach("below");
  const Image made(folder().File("made.qcow2"));
  EXPECT_THAT(made, IsSound());
  EXPECT_EQ(made.Info("/cluster-size"), "4096");
  EXPECT_EQ(made.Info("/format-specific/data/refcount-bits"), "64");
  EXPECT_EQ(made.Info("/format-specific/data/lazy-refcounts"), "true");
  EXPECT_EQ(made.Info("/format-specific/data/compression-type"), "zstd");
  EXPECT_EQ(made.Info("/backing-filename"), "base.qcow2");
  EXPECT_EQ(made.Info("/backing-filename-format"), "qcow2");
}

TEST_P(CreateScenarios, AVersion2Image) {
  AddBelow(folder().File("made.qcow2"));
  v1::BlockdevCreateRequest request = CreateQcow2("below", kDiskBytes);
  request.mutable_options()->mutable_qcow2()->set_version(v1::BLOCKDEV_QCOW2_VERSION_V2);
  EXPECT_EQ(ErrorOf(request), "");
  operate().Detach("below");
  EXPECT_EQ(Image(folder().File("made.qcow2")).Info("/format-specific/data/compat"), "0.10");
  EXPECT_THAT(Image(folder().File("made.qcow2")), IsSound());
}

TEST_P(CreateScenarios, MetadataCanBeAllocatedAhead) {
  AddBelow(folder().File("made.qcow2"));
  v1::BlockdevCreateRequest request = CreateQcow2("below", kDiskBytes);
  request.mutable_options()->mutable_qcow2()->set_preallocation(v1::PREALLOC_MODE_METADATA);
  EXPECT_EQ(ErrorOf(request), "");
  operate().Detach("below");
  const Image made(folder().File("made.qcow2"));
  EXPECT_THAT(made, IsSound());
  EXPECT_THAT(made, AllocatesExactly(Ranges{{0, kDiskBytes}}));
  EXPECT_THAT(made.Contents(), HoldsSameAs(std::string(kDiskBytes, '\0')));
}

TEST_P(CreateScenarios, BadValuesAreTheJobsErrorsNotTheRequests) {
  AddBelow(folder().File("made.qcow2"));
  EXPECT_THAT(ErrorOf(CreateQcow2("below", kMiB + 1)), ::testing::HasSubstr("512"));
  v1::BlockdevCreateRequest request = CreateQcow2("below", kMiB);
  request.mutable_options()->mutable_qcow2()->set_cluster_size(1000);
  EXPECT_THAT(ErrorOf(request), ::testing::HasSubstr("luster"));
  request.mutable_options()->mutable_qcow2()->set_cluster_size(4 * kMiB);
  EXPECT_THAT(ErrorOf(request), ::testing::HasSubstr("luster"));
  EXPECT_THAT(ErrorOf(CreateQcow2("nobody", kMiB)), ::testing::HasSubstr("nobody"));
  const std::string nowhere = folder().File("nowhere/made");
  EXPECT_THAT(ErrorOf(CreateFile(nowhere, kMiB)), ::testing::HasSubstr(nowhere));
}

TEST_P(CreateScenarios, AFailedJobTellsItsStory) {
  operate().Do(CreateFile(folder().File("nowhere/made"), kMiB));
  operate().AwaitStatus("make", v1::JOB_STATUS_CONCLUDED);
  operate().Do(OfJob<v1::JobDismissRequest>("make"));
  operate().AwaitEnd("make");
  EXPECT_EQ(operate().StoryOf("make"),
            (Story{"created", "running", "aborting", "concluded", "null"}));
  EXPECT_EQ(operate().Job("make").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Job("make").error_reason(), v1::ERROR_REASON_FILE_NOT_FOUND);
}

TEST_P(CreateScenarios, RefusedRequests) {
  operate().Do(CreateFile(folder().File("made"), kMiB));
  operate().AwaitStatus("make", v1::JOB_STATUS_CONCLUDED);
  ExpectRefused(CreateFile(folder().File("other"), kMiB), v1::ERROR_REASON_JOB_EXISTS, {"make"});
  v1::BlockdevCreateRequest request = CreateFile(folder().File("other"), kMiB);
  request.set_job_id("");
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"job_id"});
  request = CreateFile(folder().File("other"), kMiB);
  request.mutable_options()->mutable_file()->clear_size();
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"options.file.size"});
  request.clear_options();
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"options"});
}

ON_EVERY_BACKEND(CreateScenarios);

}  // namespace
}  // namespace tidemark::test
