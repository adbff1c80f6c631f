// The main job on a real guest: both disks, full and incremental, while it writes; and what
// happens when the place for the backup is too small.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/guest/stage.h"

namespace tidemark::test {
namespace {

constexpr uint64_t kTooSmall = 1 << 20;
constexpr uint64_t kLargeEnough = 256 << 20;

class BackupStory : public GuestStory {
 protected:
  // Makes two images and opens them as nodes "target0" and "target1".
  void OpenTargets(const Pair& images) {
    for (size_t disk = 0; disk < images.size(); ++disk) {
      Image::Create(images[disk], kGuestDiskBytes);
      Do(Add(Qcow2Options(absl::StrCat("target", disk), images[disk])));
    }
  }
  void CloseTargets() {
    Do(Del("target0"));
    Do(Del("target1"));
  }

  // Starts a backup of both disks at one moment, as jobs `name`0 and `name`1 that share their fate.
  // Each empties its disk's bitmap, which records what comes after.
  void Start(const std::string& name, v1::MirrorSyncMode sync, int64_t speed) {
    const auto of_disk = [&](int disk) {
      return Backup({.job = absl::StrCat(name, disk),
                     .source = absl::StrCat("disk", disk),
                     .target = absl::StrCat("target", disk),
                     .sync = sync,
                     .bitmap = "since-last",
                     .mode = kOnSuccess,
                     .speed = speed});
    };
    Do(TransactGrouped(of_disk(0), of_disk(1)));
  }
  void Release(const std::string& name) {
    Do(SetSpeed(name + "0", 0));
    Do(SetSpeed(name + "1", 0));
  }
  void FinishBoth(const std::string& name) {
    Finish(name + "0");
    Finish(name + "1");
    CloseTargets();
  }
  // Such a backup from begin to end. It is held until the guest has overwritten much of what it
  // has yet to copy. Expects that the copies, upon `bases` if there are any, are of the moment
  // when it began.
  void MakeBackup(const std::string& name, v1::MirrorSyncMode sync, const Pair& images,
                  const Pair& bases = {}) {
    OpenTargets(images);
    const uint64_t before = guest().Written();
    Start(name, sync, kHold);
    // It may have written 16 before it tells of them.
    guest().AwaitMore(17);
    const uint64_t after = guest().Written();
    guest().AwaitMore(128);
    Release(name);
    FinishBoth(name);
    for (size_t disk = 0; disk < images.size() && !bases[disk].empty(); ++disk) {
      Image(images[disk]).Over(Image(bases[disk]));
    }
    const Newest newest = ExamineImages(images);
    EXPECT_GE(newest[1], before) << name;
    EXPECT_LE(newest[0], after) << name;
  }
};

TEST_P(BackupStory, AGroupedFullAndThreeIncrementalsOneOfWhichIsMadeAgain) {
  SmallFileSystem small(folder().MakeFolder("small"), kTooSmall);
  if (!small.mounted()) GTEST_SKIP() << "this process may not mount a small file system";
  const Pair full = InFolder("full"), first = InFolder("first"), third = InFolder("third");
  const Pair second = {folder().File("second0.qcow2"), folder().File("small/second1.qcow2")};
  const Pair cramped = {folder().File("cramped0.qcow2"), folder().File("small/cramped1.qcow2")};

  Do(BitmapAdd("disk0", "since-last", absl::nullopt, /*persistent=*/true));
  Do(BitmapAdd("disk1", "since-last", absl::nullopt, /*persistent=*/true));
  MakeBackup("full", kFull, full);
  guest().AwaitMore(64);
  MakeBackup("first", kIncremental, first, full);

  // More than the small file system can take, whatever the guest does meanwhile.
  guest().AwaitMore(64);
  OpenTargets(cramped);
  Start("cramped", kIncremental, 0);
  AwaitEnd("cramped0");
  AwaitEnd("cramped1");
  EXPECT_EQ(Job("cramped1").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Job("cramped1").error_reason(), v1::ERROR_REASON_NO_SPACE) << Job("cramped1").error();
  EXPECT_EQ(Job("cramped0").outcome(), v1::JOB_OUTCOME_CANCELLED) << "its group has failed";
  CloseTargets();
  // Had a write of the guest been in need of the full disk, QEMU would have stopped the guest.
  Do(v1::ContRequest());

  // Both bitmaps still know all that the failed backup should have held.
  small.Resize(kLargeEnough);
  MakeBackup("second", kIncremental, second, first);
  guest().AwaitMore(64);
  MakeBackup("third", kIncremental, third, second);

  StopGuest();
  EXPECT_EQ(VerifyByGuest(third), ExamineImages(third));
  EXPECT_EQ(VerifyByGuest(Disks()), ExamineImages(Disks()));
}

TEST_P(BackupStory, AGuestThatIsStoppedForWantOfSpaceGoesOnWhenThereIsSome) {
  SmallFileSystem small(folder().MakeFolder("small"), kTooSmall);
  if (!small.mounted()) GTEST_SKIP() << "this process may not mount a small file system";
  const Pair full = {folder().File("full0.qcow2"), folder().File("small/full1.qcow2")};
  Do(BitmapAdd("disk0", "since-last"));
  Do(BitmapAdd("disk1", "since-last"));
  OpenTargets(full);
  const uint64_t before = guest().Written();
  // Held, so that it is the guest's own writes for which old clusters must be copied.
  Start("full", kFull, kHold);
  EXPECT_TRUE(events().WaitUntil([](const std::vector<v1::Event>& all) {
    return std::any_of(all.begin(), all.end(), [](const v1::Event& event) {
      return event.has_block_io_error() && event.block_io_error().nospace() &&
             event.block_io_error().action() == v1::BLOCK_ERROR_ACTION_STOP;
    });
  }));
  EXPECT_TRUE(events().WaitUntil([](const std::vector<v1::Event>& all) {
    return std::any_of(all.begin(), all.end(),
                       [](const v1::Event& event) { return event.has_stop(); });
  }));
  EXPECT_EQ(Do(v1::QueryStatusRequest()).status(), v1::RUN_STATE_IO_ERROR);

  small.Resize(kLargeEnough);
  Do(v1::ContRequest());
  guest().AwaitMore(64);
  Release("full");
  FinishBoth("full");
  const Newest newest = ExamineImages(full);
  EXPECT_GE(newest[1], before);
  EXPECT_LT(newest[0], guest().Written());
  StopGuest();
  EXPECT_EQ(VerifyByGuest(full), newest);
}

ON_EVERY_QEMU(BackupStory);

}  // namespace
}  // namespace tidemark::test
