// Block nodes: opening, closing, naming, who may use them, and the locks on their files.
#include <unistd.h>

#include "tests/conformance/conformance.h"
#include "tests/support/process.h"
#include "tests/support/storage_daemon.h"

namespace tidemark::test {
namespace {

class NodeScenarios : public Conformance {
 protected:
  std::string NewImage(const std::string& name, const std::string& options = "") {
    return Image::Create(operate().FileOf(name), kDiskBytes, "qcow2", options).path();
  }
};

constexpr auto kExists = v1::ERROR_REASON_NODE_EXISTS;
constexpr auto kNoNode = v1::ERROR_REASON_NODE_NOT_FOUND;
constexpr auto kBusy = v1::ERROR_REASON_NODE_BUSY;
constexpr auto kField = v1::ERROR_REASON_INVALID_FIELD;

TEST_P(NodeScenarios, AnOpenNodeTellsWhatItIs) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  const v1::BlockDeviceInfo info = operate().Node("disk0");
  EXPECT_EQ(info.drv(), "qcow2");
  EXPECT_EQ(info.file(), operate().FileOf("disk0"));
  EXPECT_FALSE(info.ro());
  EXPECT_EQ(info.image().format(), "qcow2");
  EXPECT_EQ(info.image().virtual_size(), static_cast<int64_t>(kDiskBytes));
  EXPECT_EQ(info.image().cluster_size(), 65536);
  EXPECT_EQ(info.image().format_specific().qcow2().compat(), "1.1");
  EXPECT_EQ(info.image().format_specific().qcow2().refcount_bits(), 16);
}

TEST_P(NodeScenarios, AnInlineChildLivesAndDiesWithItsUser) {
  v1::BlockdevOptions options = Qcow2Options("disk0", NewImage("disk0"));
  options.mutable_qcow2()->mutable_file()->mutable_definition()->set_node_name("below");
  operate().Do(Add(options));
  EXPECT_EQ(operate().Node("below").drv(), "file");
  ExpectRefused(Del("below"), v1::ERROR_REASON_NODE_NOT_OWNED, {"below"});
  operate().Detach("disk0");
  EXPECT_FALSE(operate().HasNode("below"));
  EXPECT_THAT(folder().Locks(), IsEmpty());
}

TEST_P(NodeScenarios, AnUnnamedChildGetsAGeneratedName) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  std::vector<std::string> names;
  for (const auto& node : operate().Nodes()) {
    names.push_back(node.node_name());
  }
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("disk0", ::testing::StartsWith("#block")));
}

TEST_P(NodeScenarios, AChildGivenByNameOutlivesItsUser) {
  operate().Do(Add(FileOptions(NewImage("disk0"), "below")));
  v1::BlockdevOptions options = Qcow2Options("disk0", "");
  options.mutable_qcow2()->mutable_file()->set_reference("below");
  operate().Do(Add(options));
  ExpectRefused(Del("below"), kBusy, {"below"});
  operate().Detach("disk0");
  operate().Detach("below");
  EXPECT_THAT(operate().Nodes(), IsEmpty());
}

TEST_P(NodeScenarios, TheRecordedChainIsOpenedReadOnly) {
  NewImage("base");
  NewImage("middle");
  NewImage("disk0");
  image("middle").Over(image("base"));
  image("disk0").Over(image("middle"));
  operate().Attach("disk0");
  const v1::BlockDeviceInfo info = operate().Node("disk0");
  EXPECT_EQ(info.backing_file(), operate().FileOf("middle"));
  EXPECT_EQ(info.backing_file_depth(), 2);
  EXPECT_EQ(info.image().backing_image().filename(), operate().FileOf("middle"));
  EXPECT_EQ(info.image().backing_image().backing_image().filename(), operate().FileOf("base"));
  int read_only = 0;
  for (const auto& node : operate().Nodes()) {
    if (node.drv() == "qcow2" && node.ro()) ++read_only;
  }
  EXPECT_EQ(read_only, 2);
  operate().Detach("disk0");
  EXPECT_THAT(folder().Locks(), IsEmpty());
}

TEST_P(NodeScenarios, ARelativeBackingNameCountsFromTheImagesFolder) {
  NewImage("base");
  EXPECT_EQ(RunTool({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2",
                     operate().FileOf("disk0")})
                .exit_status,
            0);
  operate().Attach("disk0");
  EXPECT_EQ(operate().Node("disk0").backing_file_depth(), 1);
}

TEST_P(NodeScenarios, BackingNoneOpensTheImageAlone) {
  NewImage("base");
  operate().Attach("base");
  guest("base").Write(1, Clusters(0, 4));
  Unplug("base");
  operate().Detach("base");
  NewImage("disk0");
  image("disk0").Over(image("base"));
  v1::BlockdevOptions options = Qcow2Options("disk0", operate().FileOf("disk0"));
  options.mutable_qcow2()->mutable_backing()->mutable_none();
  operate().Do(Add(options));
  EXPECT_EQ(operate().Node("disk0").backing_file_depth(), 0);
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(std::string(kDiskBytes, '\0')));
}

TEST_P(NodeScenarios, OneBackingNodeServesSeveralOverlays) {
  NewImage("base");
  operate().Attach("base");
  guest("base").Write(1, Clusters(0, 4));
  Unplug("base");
  for (const char* name : {"over0", "over1"}) {
    v1::BlockdevOptions options = Qcow2Options(name, NewImage(name));
    options.mutable_qcow2()->mutable_backing()->set_reference("base");
    operate().Do(Add(options));
    EXPECT_THAT(guest(name).Read(Clusters(0, 4)),
                HoldsSameAs(ModelOf("base")->bytes().substr(0, 4 * kClusterBytes)));
  }
  ExpectRefused(Del("base"), kBusy, {"base", "over"});
  ExpectRefused(Resize("base", kMiB), kBusy, {"base"});
}

TEST_P(NodeScenarios, ANameIsUsedOnce) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  ExpectRefused(Add(NullOptions("disk0", kDiskBytes)), kExists, {"disk0"});
  v1::BlockdevOptions options = Qcow2Options("disk1", NewImage("disk1"));
  options.mutable_qcow2()->mutable_file()->mutable_definition()->set_node_name("disk0");
  ExpectRefused(Add(options), kExists, {"disk0"});
  options.mutable_qcow2()->mutable_file()->mutable_definition()->set_node_name("disk1");
  ExpectRefused(Add(options), kExists, {"disk1"});
}

TEST_P(NodeScenarios, NamesHaveAForm) {
  for (const std::string& name : {std::string("1disk"), std::string("#block1"),
                                  std::string("disk 0"), std::string(32, 'd')}) {
    ExpectRefused(Add(NullOptions(name, kDiskBytes)), kField, {"options.node_name"});
  }
  operate().Do(Add(NullOptions(std::string(31, 'd'), kDiskBytes)));
  ExpectRefused(Add(NullOptions("", kDiskBytes)), v1::ERROR_REASON_INVALID_COMBINATION,
                {"node_name"});
}

TEST_P(NodeScenarios, WhatIsMissingIsNamedByItsPath) {
  v1::BlockdevOptions options;
  options.set_node_name("disk0");
  ExpectRefused(Add(options), kField, {"options.driver"});
  options.mutable_qcow2();
  ExpectRefused(Add(options), kField, {"options.qcow2.file"});
  options.mutable_file();
  ExpectRefused(Add(options), kField, {"options.file.filename"});
  ExpectRefused(v1::BlockdevAddRequest(), kField, {"options"});
  ExpectRefused(Del(""), kField, {"node_name"});
}

TEST_P(NodeScenarios, FilesThatCannotBeOpened) {
  const std::string missing = folder().File("missing.qcow2");
  ExpectRefused(Add(Qcow2Options("disk0", missing)), v1::ERROR_REASON_FILE_NOT_FOUND, {missing});
  WriteFile(folder().File("text"), std::string(100000, 't'));
  ExpectRefused(Add(Qcow2Options("disk0", folder().File("text"))), v1::ERROR_REASON_IMAGE_FORMAT,
                {"qcow2"});
  WriteFile(folder().File("empty"), "");
  ExpectRefused(Add(Qcow2Options("disk0", folder().File("empty"))), v1::ERROR_REASON_IMAGE_FORMAT,
                {"qcow2"});
  v1::BlockdevOptions options = Qcow2Options("disk0", "");
  options.mutable_qcow2()->mutable_file()->set_reference("nobody");
  ExpectRefused(Add(options), kNoNode, {"nobody"});
  NewImage("base");
  NewImage("disk0");
  image("disk0").Over(image("base"));
  unlink(operate().FileOf("base").c_str());
  ExpectRefused(Add(Qcow2Options("disk0", operate().FileOf("disk0"))),
                v1::ERROR_REASON_FILE_NOT_FOUND, {"base.qcow2"});
}

TEST_P(NodeScenarios, ImagesBeyondTheEngineAreRefusedByTheNameOfTheFeature) {
  NewImage("disk0");
  // Incompatible feature bit 17 is nobody's.
  PatchFile(operate().FileOf("disk0"), 72, std::string("\0\0\0\0\0\2\0\0", 8));
  ExpectRefused(Add(Qcow2Options("disk0", operate().FileOf("disk0"))),
                v1::ERROR_REASON_FEATURE_UNSUPPORTED, {});
}

TEST_P(NodeScenarios, ACorruptImageIsRefused) {
  NewImage("disk0");
  // The L1 table where no cluster begins.
  PatchFile(operate().FileOf("disk0"), 40, std::string("\0\0\0\0\0\3\0\1", 8));
  ExpectRefused(Add(Qcow2Options("disk0", operate().FileOf("disk0"))),
                v1::ERROR_REASON_IMAGE_CORRUPT, {});
}

TEST_P(NodeScenarios, AnImageThatAnotherProcessHasOpenIsRefusedBothWays) {
  NewImage("disk0");
  StorageDaemon other(&folder());
  ASSERT_TRUE(other.started());
  ASSERT_EQ(other.Open("theirs", operate().FileOf("disk0")), "");
  ExpectRefused(Add(Qcow2Options("disk0", operate().FileOf("disk0"))),
                v1::ERROR_REASON_IMAGE_LOCKED, {operate().FileOf("disk0")});
  v1::BlockdevOptions look = Qcow2Options("look", operate().FileOf("disk0"));
  look.set_read_only(true);
  ExpectRefused(Add(look), v1::ERROR_REASON_IMAGE_LOCKED, {operate().FileOf("disk0")});
  look.set_force_share(true);
  operate().Do(Add(look));
  operate().Detach("look");
  other.Close("theirs");

  operate().Attach("disk0");
  EXPECT_THAT(other.Open("theirs", operate().FileOf("disk0")), ::testing::HasSubstr("lock"));
  EXPECT_THAT(other.Open("theirs", operate().FileOf("disk0"), /*read_only=*/true),
              ::testing::HasSubstr("lock"));
  operate().Detach("disk0");
  EXPECT_EQ(other.Open("theirs", operate().FileOf("disk0")), "");
  other.Close("theirs");
}

TEST_P(NodeScenarios, ReadersOfOneImageShareIt) {
  NewImage("disk0");
  StorageDaemon other(&folder());
  ASSERT_TRUE(other.started());
  ASSERT_EQ(other.Open("theirs", operate().FileOf("disk0"), /*read_only=*/true), "");
  v1::BlockdevOptions options = Qcow2Options("disk0", operate().FileOf("disk0"));
  options.set_read_only(true);
  operate().Do(Add(options));
  EXPECT_TRUE(operate().Node("disk0").ro());
  ExpectRefused(ExportAdd("e0", "disk0", /*writable=*/false),
                v1::ERROR_REASON_NBD_SERVER_NOT_RUNNING, {});
  // That the node is read-only is seen first.
  ExpectRefused(ExportAdd("e0", "disk0", /*writable=*/true), v1::ERROR_REASON_NODE_READ_ONLY,
                {"disk0"});
}

TEST_P(NodeScenarios, OneFileIsNotOpenedTwiceForWriting) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  ExpectRefused(Add(Qcow2Options("again", operate().FileOf("disk0"))),
                v1::ERROR_REASON_IMAGE_LOCKED, {operate().FileOf("disk0")});
}

TEST_P(NodeScenarios, ForceShareIsForReaders) {
  v1::BlockdevOptions options = Qcow2Options("disk0", NewImage("disk0"));
  options.set_force_share(true);
  ExpectRefused(Add(options), v1::ERROR_REASON_INVALID_COMBINATION, {"force_share"});
}

TEST_P(NodeScenarios, AWriterBelowASecondFormatConflicts) {
  operate().Do(Add(FileOptions(NewImage("disk0"), "below")));
  v1::BlockdevOptions options = Qcow2Options("one", "");
  options.mutable_qcow2()->mutable_file()->set_reference("below");
  operate().Do(Add(options));
  options.set_node_name("two");
  ExpectRefused(Add(options), v1::ERROR_REASON_PERMISSION_CONFLICT, {"below", "one"});
}

TEST_P(NodeScenarios, UnknownNodesAreRefused) {
  ExpectRefused(Del("disk9"), kNoNode, {"disk9"});
  ExpectRefused(Resize("disk9", kMiB), kNoNode, {"disk9"});
  v1::BlockResizeRequest drive;
  drive.set_device("drive9");
  drive.set_size(kMiB);
  ExpectRefused(drive, kNoNode, {"drive9"});
  v1::BlockResizeRequest nothing;
  nothing.set_size(kMiB);
  ExpectRefused(nothing, v1::ERROR_REASON_INVALID_COMBINATION, {});
}

TEST_P(NodeScenarios, AnExportedNodeIsNotClosed) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  guest().Write(1, Clusters(0, 1));
  ExpectRefused(Del("disk0"), kBusy, {"disk0"});
  ExpectRefused(Resize("disk0", 2 * kDiskBytes), v1::ERROR_REASON_PERMISSION_CONFLICT, {"disk0"});
  Unplug();
  operate().Detach("disk0");
}

TEST_P(NodeScenarios, ResizeGrowsAndCuts) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  guest().Write(1, {0, kDiskBytes});
  Unplug();
  operate().Do(Resize("disk0", 2 * kDiskBytes));
  EXPECT_EQ(operate().Node("disk0").image().virtual_size(), static_cast<int64_t>(2 * kDiskBytes));
  operate().Do(Resize("disk0", kDiskBytes / 2));
  operate().Do(Resize("disk0", kDiskBytes));
  ByteModel model(kDiskBytes);
  model.Write(1, {0, kDiskBytes});
  model.Resize(kDiskBytes / 2);
  model.Resize(kDiskBytes);
  operate().Detach("disk0");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(model.bytes()));
}

TEST_P(NodeScenarios, ResizeOfRawTakesAnyByte) {
  Image::Create(folder().File("flat.raw"), kDiskBytes, "raw");
  operate().Do(Add(RawOptions("flat", folder().File("flat.raw"))));
  operate().Do(Resize("flat", 1234567));
  operate().Detach("flat");
  EXPECT_EQ(ReadFile(folder().File("flat.raw")).size(), 1234567u);
}

TEST_P(NodeScenarios, RefusedSizes) {
  operate().Do(Add(Qcow2Options("disk0", NewImage("disk0"))));
  ExpectRefused(Resize("disk0", -1), kField, {"size", "-1"});
  ExpectRefused(Resize("disk0", kMiB + 1), kField, {std::to_string(kMiB + 1)});
  v1::BlockResizeRequest unset;
  unset.set_node_name("disk0");
  ExpectRefused(unset, kField, {"size"});
  v1::BlockdevOptions look = Qcow2Options("look", NewImage("look"));
  look.set_read_only(true);
  operate().Do(Add(look));
  ExpectRefused(Resize("look", 2 * kDiskBytes), v1::ERROR_REASON_NODE_READ_ONLY, {"look"});
}

TEST_P(NodeScenarios, ARawNodeCanBeAWindow) {
  WriteFile(folder().File("flat"), PatternBytes(3, {0, 2 * kMiB}));
  v1::BlockdevOptions options = RawOptions("window", folder().File("flat"));
  options.mutable_raw()->set_offset(kMiB);
  options.mutable_raw()->set_size(64 * 1024);
  operate().Do(Add(options));
  EXPECT_EQ(operate().Node("window").image().virtual_size(), 64 * 1024);
  EXPECT_THAT(guest("window").ReadAll(),
              HoldsSameAs(PatternBytes(3, {0, 2 * kMiB}).substr(kMiB, 64 * 1024)));
}

ON_EVERY_BACKEND(NodeScenarios);

}  // namespace
}  // namespace tidemark::test
