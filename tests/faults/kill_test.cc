// The service killed for real (SIGKILL), at any moment of anything the native engine does: guests
// write and flush, backups run and end, bitmaps come and go, images are made, opened, resized and
// closed. Judged afterwards by QEMU's tools, and by a service that starts on the same files:
//   - images have leaks at worst, and open;
//   - each sector of the disk holds what was durable, or what was written after that;
//   - a backup that was told to have succeeded is the disk at one instant of its time;
//   - bitmaps of an image that was closed are whole, those of one that was open are in use.
//
// Rounds are numbered, and a number always means the same layout and the same requests, though not
// the same instant. TIDEMARK_KILLS=N runs N rounds (the long run is 500), TIDEMARK_KILL_SEED=N
// round N alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/conformance/requests.h"
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
constexpr uint64_t kSizeBytes = 8 * kMiB;
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
        {folder_.File("nbd.sock"), "disk0"}, ByteModel(kSizeBytes), seed_,
        {.lane_count = 3, .flush_every = 1 + random_() % 20, .may_be_cut_off = true});
    writer_ = &writer;
    const size_t requests = 1 + random_() % kGuestRequestsMax;
    const int commands = 1 + random_() % kCommandsMax;
    std::thread operating([this] { Operate(); });
    // Whichever comes first: so kills fall into quiet and into busy moments.
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (writer.request_count() < requests && command_count_ < commands &&
           absl::Now() < deadline) {
      absl::SleepFor(absl::Microseconds(200));
    }
    daemon_->Kill();
    operating.join();
    writer.Stop();
    Judge();
    Resume();
  }

 private:
  // A backup that was told to have succeeded.
  struct Kept {
    std::string path;
    std::string format;
    RandomWriter::Instant earliest;
    RandomWriter::Instant latest;
  };

  template <class Request>
  bool Try(const Request& request) {
    const bool ok = client_->Invoke(request).ok();
    ++command_count_;
    return ok;
  }
  template <class Request>
  void Do(const Request& request) {
    const auto reply = client_->Invoke(request);
    ASSERT_TRUE(reply.ok()) << request.GetTypeName() << ": " << reply.refusal;
  }
  std::string Disk(int number) const {
    return folder_.File(absl::StrCat("disk", number, ".qcow2"));
  }

  void StartDaemon() {
    daemon_ = std::make_unique<Daemon>(&folder_);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
  }

  void Begin() {
    const std::string layout = SomeLayout(random_, &keeps_bitmaps_);
    SCOPED_TRACE(layout);
    Image::Create(Disk(0), kSizeBytes, "qcow2", layout);
    Image::Create(Disk(1), kSizeBytes, "qcow2", "cluster_size=65536");
    StartDaemon();
    if (::testing::Test::HasFailure()) return;
    Do(Add(Qcow2Options("disk0", Disk(0))));
    Do(BitmapAdd("disk0", "since", absl::nullopt, keeps_bitmaps_));
    Do(NbdStart(folder_.File("nbd.sock")));
    Do(ExportAdd("e0", "disk0", /*writable=*/true, {}, "disk0"));
  }

  // Until the service is gone.
  void Operate() {
    std::mt19937_64 random(seed_ + 1'000'000);
    for (int number = 0; daemon_is_there_; ++number) {
      switch (random() % 9) {
        case 0:
        case 1:
          BackUp(number, kFull, "", random() % 3 == 0 ? "raw" : "qcow2");
          break;
        case 2:
        case 3:
          BackUp(number, kIncremental, "since", "qcow2");
          break;
        case 4:
          BackUpAndCancel(number);
          break;
        case 5:
          ComeAndGo(number, random);
          break;
        case 6:
          Try(BitmapAdd("disk0", absl::StrCat("b", number), 1 << (9 + random() % 12),
                        keeps_bitmaps_ && random() % 2 == 0));
          Try(BitmapMerge("disk0", absl::StrCat("b", number), {"since"}));
          break;
        case 7:
          Try(BitmapRemove("disk0", absl::StrCat("b", random() % (number + 1))));
          break;
        default:
          Try(QueryNodes());
      }
      daemon_is_there_ =
          client_->Invoke(QueryNodes()).refusal.code != absl::StatusCode::kUnavailable;
    }
  }

  static v1::QueryNamedBlockNodesRequest QueryNodes() { return {}; }

  void BackUp(int number, v1::MirrorSyncMode sync, const std::string& bitmap,
              const std::string& format) {
    const std::string job = absl::StrCat("job", number);
    Kept kept{folder_.File(absl::StrCat("backup", number)), format, writer_->Answered(), {}};
    if (!Try(BackupToFile({.job = job,
                           .source = "disk0",
                           .target = kept.path,
                           .sync = sync,
                           .bitmap = bitmap,
                           .speed = number % 3 == 0 ? int64_t{20} << 20 : 0},
                          format))) {
      return;
    }
    kept.latest = writer_->Sent();
    v1::WaitJobRequest wait;
    wait.set_id(job);
    const auto waited = client_->Invoke(wait);
    if (waited.ok() && waited->job().outcome() == v1::JOB_OUTCOME_SUCCEEDED && sync == kFull) {
      kept_.push_back(std::move(kept));
    }
  }

  void BackUpAndCancel(int number) {
    const std::string job = absl::StrCat("job", number);
    Try(BackupToFile({.job = job,
                      .source = "disk0",
                      .target = folder_.File(absl::StrCat("backup", number)),
                      .sync = kFull,
                      .speed = 1 << 20},
                     "qcow2"));
    Try(Cancel(job, /*force=*/true));
  }

  // A second image: opened, given a bitmap, resized, closed.
  void ComeAndGo(int number, std::mt19937_64& random) {
    // Also if the kill comes before the answer: it may have been opened by then.
    disk1_is_closed_ = false;
    if (!Try(Add(Qcow2Options("disk1", Disk(1))))) return;
    const std::string bitmap = absl::StrCat("kept", number);
    if (Try(BitmapAdd("disk1", bitmap, absl::nullopt, /*persistent=*/true))) {
      bitmaps_of_disk1_.push_back(bitmap);
    }
    Try(Resize("disk1", kSizeBytes + random() % 8 * kMiB));
    disk1_is_closed_ = Try(Del("disk1"));
  }

  void ExpectLeaksAtWorst(const std::string& path) {
    const ToolResult check = RunTool({"qemu-img", "check", "-f", "qcow2", path});
    EXPECT_TRUE(check.exit_status == 0 || check.exit_status == 3)
        << path << ": " << check.output << check.errors;
  }

  void Judge() {
    ExpectLeaksAtWorst(Disk(0));
    ExpectLeaksAtWorst(Disk(1));
    EXPECT_EQ(writer_->ExplainAfterCrash(Image(Disk(0)).Contents()), "");
    for (const Kept& kept : kept_) {
      SCOPED_TRACE(kept.path);
      if (kept.format == "qcow2") ExpectLeaksAtWorst(kept.path);
      EXPECT_EQ(
          writer_->Explain(Image(kept.path, kept.format).Contents(), kept.earliest, kept.latest),
          "");
    }
    for (const StoredBitmap& bitmap : Image(Disk(0)).Bitmaps()) {
      EXPECT_THAT(bitmap.flags, ::testing::Contains("in-use")) << bitmap;
    }
    if (!disk1_is_closed_) return;
    std::vector<std::string> whole;
    for (const StoredBitmap& bitmap : Image(Disk(1)).Bitmaps()) {
      EXPECT_THAT(bitmap.flags, ::testing::Not(::testing::Contains("in-use"))) << bitmap;
      whole.push_back(bitmap.name);
    }
    EXPECT_THAT(whole, ::testing::UnorderedElementsAreArray(bitmaps_of_disk1_));
  }

  // A service on the same files goes on where that one stopped.
  void Resume() {
    StartDaemon();
    if (::testing::Test::HasFailure()) return;
    Do(Add(Qcow2Options("disk0", Disk(0))));
    Do(BackupToFile(
        {.job = "after", .source = "disk0", .target = folder_.File("after"), .sync = kFull},
        "qcow2"));
    v1::WaitJobRequest wait;
    wait.set_id("after");
    const auto waited = client_->Invoke(wait);
    EXPECT_EQ(waited->job().outcome(), v1::JOB_OUTCOME_SUCCEEDED) << waited;
    EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
    EXPECT_EQ(Image(folder_.File("after")).Complaints(), "");
    EXPECT_EQ(Image(folder_.File("after")).DifferenceFrom(Image(Disk(0))), "");
    ExpectLeaksAtWorst(Disk(0));
  }

  const int seed_;
  std::mt19937_64 random_;
  TempFolder folder_;
  bool keeps_bitmaps_ = false;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
  RandomWriter* writer_ = nullptr;
  std::atomic<int> command_count_ = 0;

  // The operating thread's own until it is joined.
  bool daemon_is_there_ = true;
  bool disk1_is_closed_ = true;
  std::vector<std::string> bitmaps_of_disk1_;
  std::vector<Kept> kept_;
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
