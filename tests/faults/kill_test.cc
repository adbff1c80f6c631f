// The service killed for real (SIGKILL), at any moment of anything the native engine does: guests
// write and flush; backups of every sync mode run, pause, are cancelled and end, alone and by
// transactions; disks go on in overlays; bitmaps come and go; images are made, opened, resized and
// closed. Judged afterwards by QEMU's tools, and by a service that starts on the same files:
//   - images have leaks at worst, and open;
//   - a snapshot that was not answered was taken, or was not;
//   - each sector of the disk holds what was durable, or what was written after that;
//   - a backup that was told to have succeeded is the disk at one instant of its time, two of one
//     transaction at the same, and so is what a target holds to which only old data goes;
//   - an image that was told to be made is one;
//   - bitmaps of an image that was closed are whole, those of one that was open are in use.
//
// Rounds are numbered, and a number always means the same layout and the same requests, though not
// the same instant. TIDEMARK_KILLS=N runs N rounds (the long run is 500), TIDEMARK_KILL_SEED=N
// round N alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/conformance/requests.h"
#include "tests/faults/kill_operator.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/image.h"
#include "tests/support/process.h"
#include "tests/support/random_writer.h"
#include "tests/support/rpc.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

constexpr int kRoundsDefault = 12;
// How much happens at most before the kill.
constexpr size_t kGuestRequestsMax = 150;
constexpr int kCommandsMax = 25;

int Variable(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  int value;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// How an image is laid out: as options for qemu-img create -o.
std::string SomeLayout(std::mt19937_64& random, bool* can_keep_bitmaps) {
  const char* const clusters[] = {"512", "4096", "65536", "65536", "2097152"};
  const char* const refcounts[] = {"1", "8", "16", "16", "64"};
  std::string layout = absl::StrCat("cluster_size=", clusters[random() % 5]);
  *can_keep_bitmaps = random() % 4 != 0;
  if (!*can_keep_bitmaps) return absl::StrCat(layout, ",compat=0.10");
  return absl::StrCat(layout, ",refcount_bits=", refcounts[random() % 5],
                      random() % 4 == 0 ? ",lazy_refcounts=on" : "");
}

class Round {
 public:
  explicit Round(int seed) : seed_(seed), random_(seed) {}

  void Play() {
    Begin();
    if (::testing::Test::HasFailure()) return;
    RandomWriter writer(
        {folder_.File("nbd.sock"), "disk0"}, ByteModel(KillOperator::kSizeBytes), seed_,
        {.lane_count = 3, .flush_every = 1 + random_() % 20, .may_be_cut_off = true});
    KillOperator an_operator(seed_ + 1'000'000, folder_, client_.get(), writer, keeps_bitmaps_);
    const size_t requests = 1 + random_() % kGuestRequestsMax;
    const int commands = 1 + random_() % kCommandsMax;
    std::thread operating([&] { an_operator.Run(); });
    // Whichever comes first: so kills fall into quiet and into busy moments.
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (writer.request_count() < requests && an_operator.command_count() < commands &&
           absl::Now() < deadline) {
      absl::SleepFor(absl::Microseconds(200));
    }
    daemon_->Kill();
    operating.join();
    writer.Stop();
    const std::string top = JudgeDisk(an_operator, writer);
    an_operator.Judge();
    if (!::testing::Test::HasFailure()) Resume(top);
  }

 private:
  template <class Request>
  void Do(const Request& request) {
    const auto reply = client_->Invoke(request);
    ASSERT_TRUE(reply.ok()) << request.GetTypeName() << ": " << reply.refusal;
  }

  void StartDaemon() {
    daemon_ = std::make_unique<Daemon>(&folder_);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
  }

  void Begin() {
    const std::string layout = SomeLayout(random_, &keeps_bitmaps_);
    SCOPED_TRACE(layout);
    const std::string disk0 = KillOperator::Disk(folder_, 0);
    Image::Create(disk0, KillOperator::kSizeBytes, "qcow2", layout);
    Image::Create(KillOperator::Disk(folder_, 1), KillOperator::kSizeBytes);
    StartDaemon();
    if (::testing::Test::HasFailure()) return;
    Do(Add(Qcow2Options("disk0", disk0)));
    Do(BitmapAdd("disk0", "since", absl::nullopt, keeps_bitmaps_));
    Do(NbdStart(folder_.File("nbd.sock")));
    Do(ExportAdd("e0", "disk0", /*writable=*/true, {}, "disk0"));
  }

  // Returns the image that is its top.
  static std::string JudgeDisk(const KillOperator& told, const RandomWriter& writer) {
    for (const std::string& path : told.chain()) ExpectLeaksAtWorst(path);
    std::string complaints;
    // Where nobody knows whether there was a snapshot, the overlay is the top if it is one.
    for (auto top = told.tops().rbegin(); top != told.tops().rend(); ++top) {
      if (RunTool({"qemu-img", "info", "-f", "qcow2", *top}).exit_status != 0) continue;
      const std::string complaint = writer.ExplainAfterCrash(Image(*top).Contents());
      absl::StrAppend(&complaints, *top, ": ", complaint, "\n");
      if (!complaint.empty()) continue;
      ExpectLeaksAtWorst(*top);
      if (told.is_alone()) ExpectInUse(*top);
      return *top;
    }
    ADD_FAILURE() << "guests have lost what was durable: " << complaints;
    return told.tops().front();
  }

  static void ExpectInUse(const std::string& path) {
    for (const StoredBitmap& bitmap : Image(path).Bitmaps()) {
      EXPECT_THAT(bitmap.flags, ::testing::Contains("in-use")) << bitmap;
    }
  }

  // A service on the same files goes on where that one stopped.
  void Resume(const std::string& top) {
    StartDaemon();
    if (::testing::Test::HasFailure()) return;
    Do(Add(Qcow2Options("disk0", top)));
    Do(BackupToFile(
        {.job = "after", .source = "disk0", .target = folder_.File("after"), .sync = kFull},
        "qcow2"));
    v1::WaitJobRequest wait;
    wait.set_id("after");
    const auto waited = client_->Invoke(wait);
    EXPECT_EQ(waited->job().outcome(), v1::JOB_OUTCOME_SUCCEEDED) << waited;
    EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
    EXPECT_EQ(Image(folder_.File("after")).Complaints(), "");
    EXPECT_EQ(Image(folder_.File("after")).DifferenceFrom(Image(top)), "");
    ExpectLeaksAtWorst(top);
  }

  const int seed_;
  std::mt19937_64 random_;
  TempFolder folder_;
  bool keeps_bitmaps_ = false;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
};

TEST(Killed, AtAnyMomentTheServiceLosesNothingThatWasDurableOrTold) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const int only = Variable("TIDEMARK_KILL_SEED", -1);
  const int rounds = Variable("TIDEMARK_KILLS", kRoundsDefault);
  for (int seed = only >= 0 ? only : 0; seed < (only >= 0 ? only + 1 : rounds); ++seed) {
    SCOPED_TRACE(absl::StrCat("TIDEMARK_KILL_SEED=", seed));
    Round(seed).Play();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tidemark::test
