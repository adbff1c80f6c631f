// Chains of images: streamed up, committed down, and what their headers record.
#include "tests/conformance/some_engines.h"

namespace tidemark::test {
namespace {

class ChainScenarios : public SomeEngines {
 protected:
  // base <- middle <- disk0, each opened under its name and holding clusters of its own.
  void CreateChain() {
    std::string below;
    uint64_t pattern = 0;
    for (const char* node : {"base", "middle", "disk0"}) {
      Image::Create(operate().FileOf(node), kDiskBytes);
      if (!below.empty()) image(node).Over(image(below));
      v1::BlockdevOptions options = Qcow2Options(node, operate().FileOf(node));
      if (!below.empty()) options.mutable_qcow2()->mutable_backing()->set_reference(below);
      operate().Do(Add(options));
      if (!below.empty()) *ModelOf(node) = *ModelOf(below);
      ++pattern;
      guest(node).Write(pattern, Clusters(8 * pattern, 12));
      Unplug(node);
      below = node;
    }
  }
  std::string RecordedBelow(const std::string& node) {
    return image(node).Info("/backing-filename");
  }
  // All of it, for no tool opens an image whose backing file is in use.
  void DetachChain() {
    Unplug();
    for (const char* node : {"disk0", "middle", "base"}) operate().Detach(node);
  }
};

ON_EVERY_BACKEND(ChainScenarios);

TEST_P(ChainScenarios, AStreamedDiskStandsAlone) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0'");
  if (!Has(stream)) return;
  CreateChain();
  operate().Do(stream);
  operate().Finish("stream0");
  EXPECT_EQ(operate().StoryOf("stream0"), Success());
  EXPECT_EQ(operate().Job("stream0").type(), v1::JOB_TYPE_STREAM);
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), "");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AStreamStopsAtItsBase) {
  const auto stream = Parse<v1::BlockStreamRequest>(
      "job_id: 'stream0' device: 'disk0' base_node: 'base' backing_file: 'base.qcow2'");
  if (!Has(stream)) return;
  CreateChain();
  operate().Do(stream);
  operate().Finish("stream0");
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), "base.qcow2");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, WhereAStreamEndsIsSaidOnce) {
  const auto stream = Parse<v1::BlockStreamRequest>(
      "job_id: 'stream0' device: 'disk0' base_node: 'base' bottom: 'middle'");
  ExpectRefused(stream, v1::ERROR_REASON_INVALID_COMBINATION, {"bottom"});
}

TEST_P(ChainScenarios, AnIntermediateCommitEndsByItself) {
  const auto commit = Parse<v1::BlockCommitRequest>(
      "job_id: 'commit0' device: 'disk0' top_node: 'middle' base_node: 'base' "
      "backing_file: 'base.qcow2'");
  if (!Has(commit)) return;
  CreateChain();
  operate().Do(commit);
  operate().Finish("commit0");
  EXPECT_EQ(operate().StoryOf("commit0"), Success());
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), "base.qcow2");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AnActiveCommitMovesTheGuestToTheBase) {
  const auto commit =
      Parse<v1::BlockCommitRequest>("job_id: 'commit0' device: 'disk0' base_node: 'base'");
  if (!Has(commit)) return;
  CreateChain();
  guest().Write(7, Clusters(1, 2));
  operate().Do(commit);
  EXPECT_TRUE(events().WaitForKind("commit0", v1::EVENT_KIND_BLOCK_JOB_READY));
  guest().Write(8, Clusters(40, 3));
  operate().Do(OfJob<v1::JobCompleteRequest>("commit0"));
  operate().Finish("commit0");
  EXPECT_EQ(operate().Exports()[0].node_name(), "base");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  DetachChain();
  EXPECT_THAT(image("base").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AnImageIsNotCommittedIntoItself) {
  const auto commit = Parse<v1::BlockCommitRequest>(
      "job_id: 'commit0' device: 'disk0' top_node: 'base' base_node: 'base'");
  if (!Has(commit)) return;
  CreateChain();
  EXPECT_FALSE(operate().Try(commit).ok());
  EXPECT_THAT(operate().Jobs(), IsEmpty());
}

TEST_P(ChainScenarios, ABackingFileIsRecordedAnew) {
  const auto change = Parse<v1::ChangeBackingFileRequest>(
      "device: 'disk0' image_node_name: 'disk0' backing_file: 'moved.qcow2'");
  if (!Has(change)) return;
  CreateChain();
  operate().Do(change);
  EXPECT_FALSE(operate()
                   .Try(Parse<v1::ChangeBackingFileRequest>(
                       "device: 'disk0' image_node_name: 'nobody' backing_file: 'x'"))
                   .ok());
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), "moved.qcow2");
}

}  // namespace
}  // namespace tidemark::test
