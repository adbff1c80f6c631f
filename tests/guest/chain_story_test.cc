// Moving a running guest's disk to another file, and its chain grown and shortened, while it
// writes.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/guest/stage.h"

namespace tidemark::test {
namespace {

class ChainStory : public GuestStory {
 protected:
  // Puts an empty overlay on a disk: what the guest writes from now on goes to `file`.
  static v1::BlockdevSnapshotSyncRequest SnapshotOf(const std::string& node,
                                                    const std::string& overlay,
                                                    const std::string& file) {
    v1::BlockdevSnapshotSyncRequest request;
    request.set_node_name(node);
    request.set_snapshot_node_name(overlay);
    request.set_snapshot_file(file);
    request.set_format("qcow2");
    return request;
  }
  // Both disks at one moment, with overlays as nodes `stem`0 and `stem`1.
  void SnapshotBoth(const std::string& node_stem, const std::string& stem) {
    v1::TransactionRequest request;
    for (size_t disk = 0; disk < 2; ++disk) {
      *request.add_actions()->mutable_blockdev_snapshot_sync() =
          SnapshotOf(absl::StrCat(node_stem, disk), absl::StrCat(stem, disk), InFolder(stem)[disk]);
    }
    Do(request);
  }
  // The node that the guest's device `disk` is on.
  std::string NodeOf(const std::string& device) {
    const v1::QueryBlockResponse all = Do(v1::QueryBlockRequest());
    for (const v1::BlockInfo& info : all.devices()) {
      if (absl::StrContains(info.qdev(), device)) return info.inserted().node_name();
    }
    return "";
  }
};

TEST_P(ChainStory, ADiskIsMirroredToAFileAndTheGuestGoesOnThere) {
  const std::string moved = folder().File("moved.qcow2");
  v1::DriveMirrorRequest mirror;
  mirror.set_job_id("move");
  mirror.set_device("disk0");
  mirror.set_target(moved);
  mirror.set_format("qcow2");
  mirror.set_node_name("moved");
  mirror.set_sync(kFull);
  Do(mirror);
  AwaitReady("move");
  guest().AwaitMore(64);
  EXPECT_EQ(NodeOf("virtio0"), "disk0");
  Do(OfJob<v1::JobCompleteRequest>("move"));
  Finish("move");
  EXPECT_EQ(NodeOf("virtio0"), "moved");

  const uint64_t at_the_end = guest().Written();
  StopGuest();
  const Newest newest = VerifyByGuest({moved, Disks()[1]});
  EXPECT_GT(newest[0], at_the_end);
  EXPECT_NE(FaultOfImages(Disks()), "") << "what the guest left behind is of an earlier moment";
}

TEST_P(ChainStory, AnOverlayIsCommittedWhileTheGuestWritesToIt) {
  SnapshotBoth("disk", "overlay");
  guest().AwaitMore(64);
  for (const int disk : {0, 1}) {
    v1::BlockCommitRequest commit;
    commit.set_job_id(absl::StrCat("commit", disk));
    commit.set_device(absl::StrCat("overlay", disk));
    Do(commit);
  }
  for (const int disk : {0, 1}) {
    const std::string job = absl::StrCat("commit", disk);
    AwaitReady(job);
    guest().AwaitMore(32);
    Do(OfJob<v1::BlockJobCompleteRequest>(job));
    Finish(job);
    EXPECT_EQ(NodeOf(absl::StrCat("virtio", disk)), absl::StrCat("disk", disk));
  }
  const uint64_t at_the_end = guest().Written();
  StopGuest();
  EXPECT_GT(VerifyByGuest(Disks())[1], at_the_end);
}

TEST_P(ChainStory, ASnapshotOfBothDisksIsOfOneMoment) {
  uint64_t before = guest().Written();
  SnapshotBoth("disk", "first");
  guest().AwaitMore(1);
  // Nobody writes to these any more, but QEMU has them open.
  const uint64_t after = guest().Written();
  guest().AwaitMore(64);
  SnapshotBoth("first", "second");
  guest().AwaitMore(64);
  StopGuest();
  const Newest at_first = VerifyByGuest(Disks());
  EXPECT_GE(at_first[1], before);
  EXPECT_LE(at_first[0], after);
  const Newest at_second = ExamineImages(InFolder("first"));
  EXPECT_GT(at_second[1], after);
  EXPECT_GT(VerifyByGuest(InFolder("second"))[1], at_second[0]);
}

TEST_P(ChainStory, ADiskMovesToAnotherPlaceAndItsChainIsStreamedTogether) {
  // To a node that was made for it.
  const std::string place = folder().MakeFolder("elsewhere");
  const std::string moved = absl::StrCat(place, "/moved.qcow2");
  Image::Create(moved, kGuestDiskBytes);
  Do(Add(Qcow2Options("moved", moved)));
  v1::BlockdevMirrorRequest mirror;
  mirror.set_job_id("move");
  mirror.set_device("disk0");
  mirror.set_target("moved");
  mirror.set_sync(kFull);
  mirror.set_copy_mode(v1::MIRROR_COPY_MODE_WRITE_BLOCKING);
  Do(mirror);
  AwaitReady("move");
  guest().AwaitMore(64);
  Do(OfJob<v1::JobCompleteRequest>("move"));
  Finish("move");
  EXPECT_EQ(NodeOf("virtio0"), "moved");
  Do(Del("disk0"));

  // A chain of three, and all of it in its top again.
  const std::string top = absl::StrCat(place, "/top.qcow2");
  Do(SnapshotOf("moved", "middle", absl::StrCat(place, "/middle.qcow2")));
  guest().AwaitMore(64);
  Do(SnapshotOf("middle", "top", top));
  guest().AwaitMore(64);
  v1::BlockStreamRequest stream;
  stream.set_job_id("stream");
  stream.set_device("top");
  Do(stream);
  Finish("stream");
  guest().AwaitMore(64);
  const uint64_t at_the_end = guest().Written();
  StopGuest();
  EXPECT_EQ(Image(top).Info("/backing-filename"), "");
  EXPECT_GT(VerifyByGuest({top, Disks()[1]})[0], at_the_end);
}

ON_EVERY_QEMU(ChainStory);

}  // namespace
}  // namespace tidemark::test
