// Many overlays over one base: what they hold together is read, told and backed up in a time that
// follows their number, not the number of ways through them.
#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

constexpr int kOverlays = 60;

class LongChainScenarios : public Conformance {
 protected:
  std::string top() const { return absl::StrCat("level", kOverlays); }

  // Three clusters in the base, nothing in the overlays; the top is open.
  void CreateChain() {
    operate().CreateDisk("level0");
    for (const uint64_t cluster : {3, 7, 11}) guest("level0").Write(cluster, Clusters(cluster, 1));
    Unplug("level0");
    operate().Detach("level0");
    for (int level = 1; level <= kOverlays; ++level) {
      Image::Create(
          operate().FileOf(absl::StrCat("level", level)), kDiskBytes, "qcow2",
          absl::StrCat("backing_file=", operate().FileOf(absl::StrCat("level", level - 1)),
                       ",backing_fmt=qcow2"));
    }
    *ModelOf(top()) = *ModelOf("level0");
    operate().Attach(top());
  }
};

ON_EVERY_BACKEND(LongChainScenarios);

TEST_P(LongChainScenarios, SixtyOverlaysAreReadAndTold) {
  CreateChain();
  operate().StartNbd();
  v1::BlockExportAddRequest add = ExportAdd("look", top(), false, {}, "look");
  add.mutable_nbd()->set_allocation_depth(true);
  operate().Do(add);
  Guest client(NbdPlace{operate().nbd_socket(), "look"}, ModelOf(top()),
               {"base:allocation", "qemu:allocation-depth"});
  ASSERT_TRUE(client.connected()) << client.error();
  EXPECT_THAT(client.ReadAll(), HoldsSameAs(client.model().bytes()));
  constexpr uint32_t kDepth = kOverlays + 1;
  EXPECT_THAT(client.Extents("qemu:allocation-depth"),
              ElementsAre(Extent{Clusters(0, 3), 0}, Extent{Clusters(3, 1), kDepth},
                          Extent{Clusters(4, 3), 0}, Extent{Clusters(7, 1), kDepth},
                          Extent{Clusters(8, 3), 0}, Extent{Clusters(11, 1), kDepth},
                          Extent{Clusters(12, 116), 0}));
  Ranges data;
  for (const Extent& extent : client.Extents("base:allocation")) {
    if ((extent.flags & 2) == 0) data.push_back(extent.range);
  }
  EXPECT_EQ(Merged(data), (Ranges{Clusters(3, 1), Clusters(7, 1), Clusters(11, 1)}));
}

TEST_P(LongChainScenarios, SixtyOverlaysAreBackedUp) {
  CreateChain();
  operate().CreateDisk("full");
  operate().Do(Backup({.source = top(), .target = "full", .sync = kFull}));
  operate().Finish("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Success());
  operate().CreateDisk("topmost");
  operate().Do(Backup({.job = "job1", .source = top(), .target = "topmost", .sync = kTop}));
  operate().Finish("job1");
  EXPECT_EQ(operate().StoryOf("job1"), Success());
  DetachAndCheck({"full", "topmost", top()});
  EXPECT_THAT(image("full").Contents(), HoldsSameAs(ModelOf(top())->bytes()));
  EXPECT_THAT(image("topmost").Allocated(), IsEmpty());
}

}  // namespace
}  // namespace tidemark::test
