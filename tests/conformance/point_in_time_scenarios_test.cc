// A backup is its disk at one instant, whatever guests write meanwhile: proven against models of
// every state that the disk has been in.
#include <atomic>
#include <cstring>
#include <thread>

#include "absl/time/clock.h"
#include "tests/conformance/conformance.h"
#include "tests/support/random_writer.h"

namespace tidemark::test {
namespace {

class PointInTime : public Conformance {
 protected:
  // Runs `start` and tells between which requests of the writer its instant lies.
  struct Window {
    RandomWriter::Instant earliest;
    RandomWriter::Instant latest;
  };
  template <class Start>
  Window WindowOf(const RandomWriter& writer, Start start) {
    Window window;
    window.earliest = writer.Answered();
    start();
    window.latest = writer.Sent();
    return window;
  }
};

constexpr int64_t kThrottle = 8 * static_cast<int64_t>(kMiB);

TEST_P(PointInTime, AChainIsTheDiskAtTheInstantOfEachLink) {
  CreateFullDisk();
  for (const char* node : {"full", "inc0", "inc1", "inc2"}) operate().CreateDisk(node);
  RandomWriter writer(PlaceOf("disk0"), *ModelOf("disk0"), /*seed=*/1);
  ASSERT_TRUE(writer.WaitForMore(20));

  std::vector<Window> windows;
  windows.push_back(WindowOf(writer, [this] {
    operate().Do(Transact(BitmapAdd("disk0", "b0"),
                          Backup({.job = "j-full", .target = "full", .speed = kThrottle})));
  }));
  operate().Finish("j-full");
  for (const char* node : {"inc0", "inc1"}) {
    ASSERT_TRUE(writer.WaitForMore(50));
    windows.push_back(WindowOf(writer, [&] {
      operate().Do(Backup({.job = std::string("j-") + node,
                           .target = node,
                           .sync = kIncremental,
                           .bitmap = "b0",
                           .speed = kThrottle}));
    }));
    operate().Finish(std::string("j-") + node);
  }
  ASSERT_TRUE(writer.WaitForMore(20));
  writer.Stop();
  operate().Do(Backup({.job = "j-inc2", .target = "inc2", .sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("j-inc2");
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);

  DetachAndCheck({"disk0", "full", "inc0", "inc1", "inc2"});
  image("inc0").Over(image("full"));
  image("inc1").Over(image("inc0"));
  image("inc2").Over(image("inc1"));
  EXPECT_EQ(writer.Explain(image("full").Contents(), windows[0].earliest, windows[0].latest), "");
  EXPECT_EQ(writer.Explain(image("inc0").Contents(), windows[1].earliest, windows[1].latest), "");
  EXPECT_EQ(writer.Explain(image("inc1").Contents(), windows[2].earliest, windows[2].latest), "");
  EXPECT_THAT(image("inc2").Contents(), HoldsSameAs(writer.Model().bytes()));
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(writer.Model().bytes()));
}

TEST_P(PointInTime, ACancelledLinkLosesNothing) {
  CreateFullDisk();
  for (const char* node : {"full", "broken", "inc0"}) operate().CreateDisk(node);
  RandomWriter writer(PlaceOf("disk0"), *ModelOf("disk0"), /*seed=*/2);
  // QEMU 10.0 may hang if it drains a disk whose NBD clients are still shaking hands.
  ASSERT_TRUE(writer.WaitForMore(20));
  operate().Do(Transact(BitmapAdd("disk0", "b0"), Backup({.job = "j-full", .target = "full"})));
  operate().Finish("j-full");
  ASSERT_TRUE(writer.WaitForMore(60));
  operate().Do(Backup({.job = "j-broken",
                       .target = "broken",
                       .sync = kIncremental,
                       .bitmap = "b0",
                       .speed = kHold}));
  ASSERT_TRUE(writer.WaitForMore(60));
  operate().CancelAndAwait("j-broken");
  ASSERT_TRUE(writer.WaitForMore(60));
  const Window window = WindowOf(writer, [this] {
    operate().Do(Backup({.job = "j-inc0", .target = "inc0", .sync = kIncremental, .bitmap = "b0"}));
  });
  operate().Finish("j-inc0");
  writer.Stop();
  DetachAndCheck({"disk0", "full", "inc0"});
  EXPECT_EQ(
      writer.Explain(image("inc0").Over(image("full")).Contents(), window.earliest, window.latest),
      "");
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(writer.Model().bytes()));
}

TEST_P(PointInTime, PausingHoldsTheInstant) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  RandomWriter writer(PlaceOf("disk0"), *ModelOf("disk0"), /*seed=*/3);
  ASSERT_TRUE(writer.WaitForMore(20));
  const Window window = WindowOf(writer, [this] { operate().Do(Backup({.speed = kThrottle})); });
  operate().Do(OfJob<v1::JobPauseRequest>("job0"));
  ASSERT_TRUE(writer.WaitForMore(80));
  operate().Do(OfJob<v1::JobResumeRequest>("job0"));
  operate().Finish("job0");
  writer.Stop();
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(writer.Explain(image("target0").Contents(), window.earliest, window.latest), "");
}

TEST_P(PointInTime, ACompressedBackupIsAnInstantToo) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  RandomWriter writer(PlaceOf("disk0"), *ModelOf("disk0"), /*seed=*/4);
  ASSERT_TRUE(writer.WaitForMore(20));
  const Window window =
      WindowOf(writer, [this] { operate().Do(Backup({.speed = kThrottle, .compress = true})); });
  operate().Finish("job0");
  writer.Stop();
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(writer.Explain(image("target0").Contents(), window.earliest, window.latest), "");
}

TEST_P(PointInTime, TheDisksOfATransactionShareTheInstant) {
  // A writer puts n on disk0, and when that is answered n on disk1, and so on without pause. At any
  // one instant disk0 is ahead of disk1 by one or not at all.
  operate().CreateDisk("disk0", kMiB);
  operate().CreateDisk("disk1", kMiB);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> written{0};
  Guest& guest0 = guest("disk0");
  Guest& guest1 = guest("disk1");
  std::thread writer([&] {
    for (uint64_t n = 1; !stop; ++n) {
      guest0.Write(n, {0, 512});
      guest1.Write(n, {0, 512});
      written = n;
    }
  });
  const auto counter = [this](const std::string& node) {
    uint64_t n = 0;
    const std::string bytes = image(node).Contents();
    // Bytes 8 to 15 of a sector are the number of the pattern.
    memcpy(&n, bytes.data() + 8, sizeof(n));
    return n;
  };
  std::vector<std::string> rounds;
  for (int round = 0; round < 6; ++round) {
    const std::string number = std::to_string(round);
    operate().CreateDisk("a" + number, kMiB);
    operate().CreateDisk("b" + number, kMiB);
    const uint64_t before = written;
    const absl::Time deadline = absl::Now() + absl::Seconds(40);
    while (written < before + 10 && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_GE(written, before + 10) << "the writer stands still";
    operate().Do(
        Transact(Backup({.job = "ja" + number, .source = "disk0", .target = "a" + number}),
                 Backup({.job = "jb" + number, .source = "disk1", .target = "b" + number})));
    operate().Finish("ja" + number);
    operate().Finish("jb" + number);
  }
  stop = true;
  writer.join();
  for (int round = 0; round < 6; ++round) {
    const std::string number = std::to_string(round);
    operate().Detach("a" + number);
    operate().Detach("b" + number);
    const uint64_t first = counter("a" + number);
    const uint64_t second = counter("b" + number);
    EXPECT_GT(first, 0u);
    EXPECT_TRUE(first == second || first == second + 1)
        << "round " << round << ": disk0 had " << first << ", disk1 had " << second;
  }
}

TEST_P(PointInTime, ABitmapClearedWithABackupMeansTheInstantOfTheBackup) {
  CreateFullDisk();
  for (const char* node : {"full", "inc0"}) operate().CreateDisk(node);
  operate().Do(BitmapAdd("disk0", "b0"));
  RandomWriter writer(PlaceOf("disk0"), *ModelOf("disk0"), /*seed=*/5);
  ASSERT_TRUE(writer.WaitForMore(40));
  operate().Do(Transact(BitmapClear("disk0", "b0"),
                        Backup({.job = "j-full", .target = "full", .speed = kThrottle})));
  ASSERT_TRUE(writer.WaitForMore(40));
  operate().Finish("j-full");
  writer.Stop();
  operate().Do(Backup({.job = "j-inc0", .target = "inc0", .sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("j-inc0");
  DetachAndCheck({"disk0", "full", "inc0"});
  EXPECT_THAT(image("inc0").Over(image("full")).Contents(), HoldsSameAs(writer.Model().bytes()));
}

ON_EVERY_BACKEND(PointInTime);

}  // namespace
}  // namespace tidemark::test
