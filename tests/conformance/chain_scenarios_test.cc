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
      // More than a job moves before its speed holds it.
      if (below.empty()) guest(node).Write(pattern, Clusters(70, 50));
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

TEST_P(ChainScenarios, AStreamStopsAtTheFileOfItsBase) {
  auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0'");
  if (!Has(stream)) return;
  CreateChain();
  stream.set_base(operate().FileOf("base"));
  operate().Do(stream);
  operate().Finish("stream0");
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), operate().FileOf("base"));
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AStreamCopiesDownToItsBottom) {
  const auto stream =
      Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0' bottom: 'middle'");
  if (!Has(stream)) return;
  CreateChain();
  operate().Do(stream);
  operate().Finish("stream0");
  // It does not show there any more, and goes.
  Unplug();
  operate().Do(Del("middle"));
  for (const char* node : {"disk0", "base"}) operate().Detach(node);
  EXPECT_EQ(RecordedBelow("disk0"), operate().FileOf("base"));
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, GuestsWriteWhileTheirDiskIsStreamed) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0' speed: 1");
  if (!Has(stream)) return;
  CreateChain();
  operate().Do(BitmapAdd("disk0", "b"));
  operate().Do(stream);
  int pattern = 20;
  for (; pattern < 40; ++pattern) guest().Write(pattern, Clusters(pattern - 15, 1));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  operate().Do(SetSpeed("stream0", 0));
  for (; pattern < 60; ++pattern) guest().Write(pattern, Clusters(pattern - 30, 2));
  operate().Finish("stream0");
  guest().Write(60, Clusters(3, 1));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  // What was copied up was there before.
  EXPECT_EQ(operate().Bitmap("disk0", "b").count(), static_cast<int64_t>(27 * kClusterBytes));
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), "");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, ACancelledStreamLeavesTheChainAsItWas) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0' speed: 1");
  if (!Has(stream)) return;
  CreateChain();
  operate().Do(stream);
  operate().CancelAndAwait("stream0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  DetachChain();
  EXPECT_EQ(RecordedBelow("disk0"), operate().FileOf("middle"));
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AStreamHasTheImagesToItself) {
  const auto stream = Parse<v1::BlockStreamRequest>(
      "job_id: 'stream0' device: 'disk0' speed: 1 filter_node_name: 'filter0'");
  if (!Has(stream)) return;
  CreateChain();
  operate().CreateDisk("target0");
  operate().Do(stream);
  EXPECT_TRUE(operate().HasNode("filter0"));
  auto another = stream;
  another.set_job_id("stream1");
  another.set_filter_node_name("filter1");
  ExpectRefused(another, v1::ERROR_REASON_NODE_BUSY, {"disk0"});
  ExpectRefused(Del("middle"), v1::ERROR_REASON_NODE_BUSY, {"middle"});
  // QEMU 7.2 refuses it, too, and has lost its mind then: the next query ends it.
  if (GetParam().name != "Qemu72") {
    ExpectRefused(Backup({}), v1::ERROR_REASON_NODE_BUSY, {"disk0"});
  }
  operate().CancelAndAwait("stream0");
  EXPECT_FALSE(operate().HasNode("filter0"));
}

// QEMU 7.2 would end with the stream: the bitmaps of the copy would be its filter's, and not gone.
TEST_P(ChainScenarios, AFilterThatGoesWithItsJobLeavesNoCopyBeforeWritesBehind) {
  const auto stream = Parse<v1::BlockStreamRequest>(
      "job_id: 'stream0' device: 'disk0' speed: 1 filter_node_name: 'filter0'");
  if (!Has(stream)) return;
  CreateChain();
  operate().CreateDisk("target0");
  operate().Do(stream);
  const std::string copying =
      "copy_before_write { file { reference: 'filter0' } target { reference: 'target0' } }";
  const auto on_top =
      Parse<v1::BlockdevAddRequest>("options { node_name: 'top0' " + copying + " }");
  if (GetParam().name == "Qemu72") {
    ExpectRefused(on_top, v1::ERROR_REASON_NODE_BUSY, {"filter0", "stream0"});
    ExpectRefused(Parse<v1::BlockdevAddRequest>("options { node_name: 'top0' raw { file { "
                                                "definition { " +
                                                copying + " } } } }"),
                  v1::ERROR_REASON_NODE_BUSY, {"filter0", "stream0"});
    // On the node below it may stand.
    operate().Do(Parse<v1::BlockdevAddRequest>(
        "options { node_name: 'top0' copy_before_write { file { reference: 'disk0' } target { "
        "reference: 'target0' } } }"));
  } else {
    operate().Try(on_top);
  }
  operate().CancelAndAwait("stream0");
  EXPECT_FALSE(operate().HasNode("filter0"));
}

TEST_P(ChainScenarios, AStreamWithoutAnythingToCopyIsDoneAtOnce) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'base'");
  if (!Has(stream)) return;
  CreateChain();
  for (const char* node : {"disk0", "middle"}) operate().Detach(node);
  operate().Do(stream);
  operate().Finish("stream0");
  EXPECT_EQ(operate().StoryOf("stream0"), Success());
  EXPECT_EQ(operate().Job("stream0").total_bytes(), 0);
}

TEST_P(ChainScenarios, WhatIsShorterBelowReadsAsZeroesAfterAStream) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0'");
  if (!Has(stream)) return;
  Image::Create(operate().FileOf("base"), kDiskBytes / 2);
  operate().Do(Add(Qcow2Options("base", operate().FileOf("base"))));
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  v1::BlockdevOptions options = Qcow2Options("disk0", operate().FileOf("disk0"));
  options.mutable_qcow2()->mutable_backing()->set_reference("base");
  operate().Do(Add(options));
  guest().Write(1, Clusters(62, 5));
  operate().Do(stream);
  operate().Finish("stream0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  Unplug();
  for (const char* node : {"disk0", "base"}) operate().Detach(node);
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ChainScenarios, AStreamThatCannotBeIsRefused) {
  const auto stream = Parse<v1::BlockStreamRequest>("job_id: 'stream0' device: 'disk0'");
  if (!Has(stream)) return;
  CreateChain();
  operate().CreateDisk("other");
  auto wrong = stream;
  wrong.set_device("nobody");
  ExpectRefused(wrong, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  wrong = stream;
  wrong.set_base_node("nobody");
  ExpectRefused(wrong, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  wrong.set_base_node("other");
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_COMBINATION, {"other", "disk0"});
  wrong.set_base_node("disk0");
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_COMBINATION, {"disk0"});
  wrong = stream;
  wrong.set_bottom("other");
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_COMBINATION, {"other", "disk0"});
  wrong = stream;
  wrong.set_base(folder().File("elsewhere.qcow2"));
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_COMBINATION, {"elsewhere.qcow2"});
  wrong = stream;
  wrong.set_backing_file("base.qcow2");
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_COMBINATION, {"backing"});
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

TEST_P(ChainScenarios, WhatHasNoBackingImageRecordsNone) {
  const auto change = Parse<v1::ChangeBackingFileRequest>(
      "device: 'disk0' image_node_name: 'base' backing_file: 'moved.qcow2'");
  if (!Has(change)) return;
  CreateChain();
  ExpectRefused(change, v1::ERROR_REASON_NODE_LACKS_FEATURE, {});
}

}  // namespace
}  // namespace tidemark::test
