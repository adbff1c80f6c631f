#include "tests/faults/kill_operator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/image.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

// Slow enough that a backup lasts for a few of the guests' requests.
constexpr int64_t kSlow = int64_t{20} << 20;

}  // namespace

void ExpectLeaksAtWorst(const std::string& path) {
  const ToolResult check = RunTool({"qemu-img", "check", "-f", "qcow2", path});
  EXPECT_TRUE(check.exit_status == 0 || check.exit_status == 3)
      << path << ": " << check.output << check.errors;
}

std::string KillOperator::Disk(const TempFolder& folder, int number) {
  return folder.File(absl::StrCat("disk", number, ".qcow2"));
}

KillOperator::KillOperator(uint64_t seed, const TempFolder& folder, Client* client,
                           const RandomWriter& writer, bool keeps_bitmaps)
    : seed_(seed),
      folder_(folder),
      client_(*client),
      writer_(writer),
      random_(seed),
      keeps_bitmaps_(keeps_bitmaps),
      tops_({Disk(folder, 0)}) {}

std::string KillOperator::Named(absl::string_view name) const {
  return absl::StrCat(name, number_);
}

// ---- Until the service is gone

void KillOperator::Run() {
  do {
    DoSomething();
    ++number_;
  } while (client_.Invoke(v1::QueryNamedBlockNodesRequest()).refusal.code !=
           absl::StatusCode::kUnavailable);
}

void KillOperator::DoSomething() {
  BackupOptions compressed = OfTop(kFull);
  compressed.compress = true;
  switch (random_() % 18) {
    case 0:
    case 1:
      return BackUp(OfTop(kFull), random_() % 3 == 0 ? "raw" : "qcow2");
    case 2:
      return BackUp(OfTop(kTop), "qcow2");
    case 3:
      return BackUp(compressed, "qcow2");
    case 4:
    case 5:
      return BackUpIncrement(kIncremental);
    case 6:
      return BackUpIncrement(kBitmap);
    case 7:
      return BackUpAndCancel();
    case 8:
      return BackUpWithPauses();
    case 9:
      return BackUpTwiceAtOneInstant();
    case 10:
    case 11:
      return Fleece();
    case 12:
      return ComeAndGo();
    case 13:
      return ChangeBitmaps();
    case 14:
      return CreateImage();
    case 15:
      return Snapshot();
    case 16:
      return SnapshotToFile();
    default:
      return SnapshotOrNot();
  }
}

BackupOptions KillOperator::OfTop(v1::MirrorSyncMode sync) const {
  return {.job = Named("job"),
          .source = node_,
          .target = File(Named("backup")),
          .sync = sync,
          .speed = number_ % 3 == 0 ? kSlow : 0};
}

bool KillOperator::Start(const BackupOptions& options, const std::string& format, Kept* kept) {
  *kept = {options.target, format, writer_.Answered(), {}};
  if (!Try(BackupToFile(options, format))) return false;
  kept->latest = writer_.Sent();
  if (format == "qcow2") targets_.push_back(options.target);
  return true;
}

bool KillOperator::HasSucceeded(const std::string& job) {
  const auto waited = client_.Invoke(OfJob<v1::WaitJobRequest>(job));
  return waited.ok() && waited->job().outcome() == v1::JOB_OUTCOME_SUCCEEDED;
}

void KillOperator::BackUp(const BackupOptions& options, const std::string& format) {
  Kept kept;
  if (!Start(options, format, &kept)) return;
  if (HasSucceeded(options.job)) kept_.push_back(std::move(kept));
}

// What the bitmap marks, with the bitmap brought up to date on success or, for kBitmap, also when
// the backup is cancelled: an image on which bitmaps are handed over and given back at any moment.
void KillOperator::BackUpIncrement(v1::MirrorSyncMode sync) {
  BackupOptions options = OfTop(sync);
  options.bitmap = "since";
  if (sync == kBitmap) options.mode = kAlways;
  Kept kept;
  if (!Start(options, "qcow2", &kept)) return;
  if (sync == kBitmap && random_() % 2 == 0) Try(Cancel(options.job, /*force=*/true));
  HasSucceeded(options.job);
}

void KillOperator::BackUpAndCancel() {
  BackupOptions options = OfTop(kFull);
  options.speed = 1 << 20;
  Kept kept;
  Start(options, "qcow2", &kept);
  Try(Cancel(options.job, /*force=*/true));
}

void KillOperator::BackUpWithPauses() {
  BackupOptions options = OfTop(kFull);
  options.speed = kSlow;
  Kept kept;
  if (!Start(options, "qcow2", &kept)) return;
  for (int i = 0; i < 3; ++i) {
    Try(OfJob<v1::JobPauseRequest>(options.job));
    Try(v1::QueryJobsRequest());
    Try(OfJob<v1::JobResumeRequest>(options.job));
  }
  if (HasSucceeded(options.job)) kept_.push_back(std::move(kept));
}

// Two backups of one transaction hold the same, whatever guests write.
void KillOperator::BackUpTwiceAtOneInstant() {
  BackupOptions options = OfTop(kFull);
  BackupOptions twin = options;
  absl::StrAppend(&twin.job, "twin");
  absl::StrAppend(&twin.target, "twin");
  Kept kept{options.target, "qcow2", writer_.Answered(), {}};
  if (!Try(TransactGrouped(BackupToFile(options, "qcow2"), BackupToFile(twin, "qcow2")))) return;
  kept.latest = writer_.Sent();
  targets_.push_back(options.target);
  targets_.push_back(twin.target);
  if (!HasSucceeded(options.job) || !HasSucceeded(twin.job)) return;
  twins_.emplace_back(options.target, twin.target);
  kept_.push_back(std::move(kept));
}

// Old data goes to the target for as long as the job runs, which is until the next of these.
void KillOperator::Fleece() {
  if (!fleecing_.empty()) Try(Cancel(fleecing_, /*force=*/true));
  BackupOptions options = OfTop(kNone);
  options.speed = 0;
  Kept kept;
  fleecing_.clear();
  if (!Start(options, "qcow2", &kept)) return;
  fleecing_ = options.job;
  fleeced_.push_back(std::move(kept));
}

// A second image: opened, given a bitmap, resized, closed.
void KillOperator::ComeAndGo() {
  // Also if the kill comes before the answer: it may have been opened by then.
  disk1_is_closed_ = false;
  if (!Try(Add(Qcow2Options("disk1", Disk(folder_, 1))))) return;
  const std::string bitmap = Named("kept");
  if (Try(BitmapAdd("disk1", bitmap, absl::nullopt, /*persistent=*/true))) {
    bitmaps_of_disk1_.push_back(bitmap);
  }
  Try(Resize("disk1", kSizeBytes + random_() % 8 * kMiB));
  disk1_is_closed_ = Try(Del("disk1"));
}

void KillOperator::ChangeBitmaps() {
  const std::string bitmap = Named("b");
  Try(BitmapAdd(node_, bitmap, 1 << (9 + random_() % 12), keeps_bitmaps_ && random_() % 2 == 0));
  Try(Transact(BitmapMerge(node_, bitmap, {"since"}), BitmapClear(node_, "since")));
  if (random_() % 2 == 0) Try(BitmapRemove(node_, bitmap));
}

// A file, and an image in it.
void KillOperator::CreateImage() {
  const std::string path = File(Named("created"));
  const std::string node = Named("file");
  const std::string job = Named("job");
  v1::BlockdevCreateRequest file;
  file.set_job_id(job);
  file.mutable_options()->mutable_file()->set_filename(path);
  file.mutable_options()->mutable_file()->set_size(0);
  if (!Try(file) || !HasSucceeded(job)) return;
  Try(OfJob<v1::JobDismissRequest>(job));
  if (!Try(Add(FileOptions(path, node)))) return;
  v1::BlockdevCreateRequest image;
  image.set_job_id(job);
  image.mutable_options()->mutable_qcow2()->mutable_file()->set_reference(node);
  image.mutable_options()->mutable_qcow2()->set_size(kSizeBytes);
  if (Try(image) && HasSucceeded(job)) created_.push_back(path);
  Try(OfJob<v1::JobDismissRequest>(job));
  Try(Del(node));
}

// ---- Snapshots

template <class Request>
void KillOperator::MoveTop(const std::string& path, const std::string& node,
                           const Request& request) {
  // Either of the two may be the top, until the answer tells.
  tops_.push_back(path);
  const auto reply = client_.Invoke(request);
  ++command_count_;
  if (reply.refusal.code == absl::StatusCode::kUnavailable) return;
  if (!reply.ok()) {
    tops_.pop_back();
    return;
  }
  chain_.push_back(tops_.front());
  tops_.erase(tops_.begin());
  node_ = node;
  keeps_bitmaps_ = true;
  Try(BitmapAdd(node_, "since", absl::nullopt, /*persistent=*/true));
}

// Above an overlay that is there.
void KillOperator::Snapshot() {
  const std::string path = File(Named("overlay"));
  const std::string node = Named("over");
  Image::Create(path, kSizeBytes);
  Image(path).Over(Image(tops_.front()));
  v1::BlockdevOptions options = Qcow2Options(node, path);
  options.mutable_qcow2()->mutable_backing()->mutable_none();
  if (!Try(Add(options))) return;
  v1::BlockdevSnapshotRequest request;
  request.set_node(node_);
  request.set_overlay(node);
  MoveTop(path, node, request);
}

// With an overlay that is made for it.
void KillOperator::SnapshotToFile() {
  v1::BlockdevSnapshotSyncRequest request;
  request.set_node_name(node_);
  request.set_snapshot_node_name(Named("over"));
  request.set_snapshot_file(File(Named("overlay")));
  MoveTop(request.snapshot_file(), request.snapshot_node_name(), request);
}

// The same among others, and undone every other time.
void KillOperator::SnapshotOrNot() {
  v1::TransactionRequest request = Transact(BitmapClear(node_, "since"));
  auto& snapshot = *request.add_actions()->mutable_blockdev_snapshot_sync();
  snapshot.set_node_name(node_);
  snapshot.set_snapshot_node_name(Named("over"));
  snapshot.set_snapshot_file(File(Named("overlay")));
  if (random_() % 2 == 0) request.add_actions()->mutable_abort();
  MoveTop(snapshot.snapshot_file(), snapshot.snapshot_node_name(), request);
}

// ---- After Run

void KillOperator::Judge() const {
  for (const std::string& path : targets_) ExpectLeaksAtWorst(path);
  for (const Kept& kept : kept_) {
    SCOPED_TRACE(kept.path);
    const std::string contents = Image(kept.path, kept.format).Contents();
    EXPECT_EQ(writer_.Explain(contents, kept.earliest, kept.latest), "");
  }
  for (const auto& [one, other] : twins_) {
    EXPECT_EQ(Image(one).DifferenceFrom(Image(other)), "") << one;
  }
  for (const Kept& old : fleeced_) {
    SCOPED_TRACE(old.path);
    const Image image(old.path);
    EXPECT_EQ(writer_.ExplainPart(image.Contents(), image.Allocated(), old.earliest, old.latest),
              "");
  }
  for (const std::string& path : created_) {
    ExpectLeaksAtWorst(path);
    EXPECT_EQ(Image(path).Info("/virtual-size"), absl::StrCat(kSizeBytes)) << path;
  }
  JudgeSecondDisk();
}

void KillOperator::JudgeSecondDisk() const {
  const std::string path = Disk(folder_, 1);
  ExpectLeaksAtWorst(path);
  if (!disk1_is_closed_) return;
  std::vector<std::string> whole;
  for (const StoredBitmap& bitmap : Image(path).Bitmaps()) {
    EXPECT_THAT(bitmap.flags, ::testing::Not(::testing::Contains("in-use"))) << bitmap;
    whole.push_back(bitmap.name);
  }
  EXPECT_THAT(whole, ::testing::UnorderedElementsAreArray(bitmaps_of_disk1_));
}

}  // namespace tidemark::test
