#include "tests/simulation/operator.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/storage/memory_storage.h"
#include "tests/simulation/guest.h"
#include "tests/simulation/offline.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::simulation {
namespace {

using namespace block::v1;  // NOLINT: about messages.

constexpr int kBackupsAtOnceMax = 3;
// Nothing that a command waits for takes longer, but disks.
constexpr absl::Duration kCommandMax = absl::Seconds(50);

}  // namespace

Operator::Operator(World* world, VirtualDisk* disk, int number)
    : world_(*world), disk_(*disk), number_(number), chance_(0) {}

void Operator::Run() {
  const uint64_t count = 3 + Chance(world_.seed(), "operations", number_).Below(8);
  for (uint64_t i = 0; i < count && !world_.calm() && !world_.dark(); ++i) {
    if (!world_.Has(absl::StrCat("operation", number_, ".", i))) continue;
    chance_ = Chance(world_.seed(), absl::StrCat("operation", number_), i);
    DoSomething(i);
    Judge();
    JudgeBitmaps(absl::StrCat("operation", number_, ".", i));
    JudgeFileBitmaps(absl::StrCat("operation", number_, ".", i));
  }
}

void Operator::JudgeDelay(const std::string& command, absl::Duration took) const {
  const Disks& disks = world_.machine().disks();
  if (took <= kCommandMax || disks.HasHit(disk_.path)) return;
  if (!disk_.backing.empty() && disks.HasHit(disk_.backing)) return;
  for (const char* const kind : {"target", "drive"}) {
    if (disks.HasHit(absl::StrCat("/targets/", kind, number_, "-"))) return;
  }
  Fail(absl::StrCat(command, " for ", disk_.node, " took ", absl::FormatDuration(took),
                    ", and its disks are well"));
}

std::string Operator::NewName(const std::string& kind) {
  return absl::StrCat(kind, number_, "-", names_++);
}

bool Operator::IsBusy(const std::string& bitmap) const {
  return std::any_of(backups_.begin(), backups_.end(), [&](const Backup& backup) {
    return !backup.judged && backup.bitmap == bitmap;
  });
}

std::string Operator::FreeBitmap() {
  std::vector<std::string> names;
  for (const auto& [name, model] : disk_.bitmaps) {
    if (!IsBusy(name)) names.push_back(name);
  }
  return names.empty() ? "" : names[chance_.Below(names.size())];
}

void Operator::DoSomething(int number) {
  switch (number == 0 ? 0 : chance_.Below(14)) {
    case 0:
      return AddBitmap();
    case 1:
    case 2:
      return ChangeBitmap();
    case 3:
      return Fleece();
    case 4:
    case 5:
      return AwaitSome();
    case 6:
      return ResizeDisk();
    case 7:
      return AddFileBitmap();
    case 8:
    case 9:
      return BackUpToFile();
    case 10:
      return OpenAgain();
    default:
      return BackUp();
  }
}

void Operator::AddBitmap() {
  BlockDirtyBitmapAddRequest request;
  request.set_node(disk_.node);
  request.set_name(NewName("bitmap"));
  request.set_granularity(512u << chance_.Below(9));
  request.set_persistent(disk_.driver == "qcow2" && chance_.OneIn(2));
  if (!Call<BlockDirtyBitmapAddResponse>(request).ok()) return;
  BitmapModel model(request.persistent(), request.granularity());
  model.Enable(world_.machine().now());
  disk_.bitmaps.emplace(request.name(), std::move(model));
}

void Operator::AddFileBitmap() {
  if (disk_.file_node.empty()) return ChangeBitmap();
  BlockDirtyBitmapAddRequest request;
  request.set_node(disk_.file_node);
  request.set_name(NewName("bitmap"));
  request.set_granularity(512u << chance_.Below(4));
  const std::vector<Disks::Written>& changes = world_.machine().disks().Watch(disk_.path);
  if (!Call<BlockDirtyBitmapAddResponse>(request).ok()) return;
  disk_.file_bitmaps.emplace(request.name(), changes.size());
}

void Operator::ResizeDisk() {
  BlockResizeRequest request;
  // By the node that guests use, or by its file.
  const bool below = !disk_.file_node.empty() && chance_.OneIn(2);
  request.set_node_name(below ? disk_.file_node : disk_.node);
  const uint64_t size = disk_.model.size_bytes() + chance_.Between(1, 4) * 65536;
  request.set_size(size);
  if (!Call<BlockResizeResponse>(request).ok()) return;
  if (below && disk_.driver == "qcow2") return;
  uint64_t seen = 0;
  world_.machine().OnEngine([&] {
    const auto node = world_.machine().engine().graph.Find(disk_.node);
    if (node.ok()) seen = (*node)->storage()->size_bytes();
  });
  if (world_.dark()) return;
  if (seen != size) {
    Fail(absl::StrCat(disk_.node, " is ", seen, " bytes long after ", request.node_name(),
                      " was made ", size));
  }
  disk_.model.Resize(size);
}

void Operator::ChangeBitmap() {
  const std::string name = FreeBitmap();
  if (name.empty()) return AddBitmap();
  BitmapModel& model = disk_.bitmaps.at(name);
  const Moment from = world_.machine().now();
  switch (chance_.Below(5)) {
    case 0: {
      BlockDirtyBitmapClearRequest request;
      request.set_node(disk_.node);
      request.set_name(name);
      if (!Call<BlockDirtyBitmapClearResponse>(request).ok()) return;
      model.Clear(world_.machine().now());
      BreakChain(name);
      return;
    }
    case 1: {
      BlockDirtyBitmapDisableRequest request;
      request.set_node(disk_.node);
      request.set_name(name);
      if (!Call<BlockDirtyBitmapDisableResponse>(request).ok()) return;
      model.Disable(from);
      BreakChain(name);
      return;
    }
    case 2: {
      BlockDirtyBitmapEnableRequest request;
      request.set_node(disk_.node);
      request.set_name(name);
      if (Call<BlockDirtyBitmapEnableResponse>(request).ok()) model.Enable(world_.machine().now());
      return;
    }
    case 3: {
      const std::string other = FreeBitmap();
      BlockDirtyBitmapMergeRequest request;
      request.set_node(disk_.node);
      request.set_target(name);
      request.add_bitmaps()->set_local(other);
      const std::vector<bool> marked = disk_.bitmaps.at(other).Marked(disk_.model);
      if (Call<BlockDirtyBitmapMergeResponse>(request).ok()) model.Merge(marked);
      return;
    }
    default: {
      BlockDirtyBitmapRemoveRequest request;
      request.set_node(disk_.node);
      request.set_name(name);
      // Also if it is refused by a disk that fails: what is left of it then is not promised.
      (void)Call<BlockDirtyBitmapRemoveResponse>(request);
      disk_.bitmaps.erase(name);
      BreakChain(name);
      return;
    }
  }
}

// Closes the disk and opens it again, with the bitmaps that are to stay.
void Operator::OpenAgain() {
  const bool in_use = std::any_of(backups_.begin(), backups_.end(),
                                  [](const Backup& backup) { return !backup.judged; });
  if (!disk_.quiet || in_use) return ChangeBitmap();
  // Perhaps its file has no room for them just then, or cannot be written.
  if (chance_.OneIn(3) && world_.Has(absl::StrCat("closing", number_))) {
    Fault fault;
    fault.kind = chance_.Of({Fault::Kind::kError, Fault::Kind::kNoSpace, Fault::Kind::kTorn});
    fault.verb = storage::Verb::kWrite;
    fault.file = disk_.path;
    fault.pass_count = chance_.Below(4);
    world_.machine().disks().AddFault(std::move(fault));
  }
  DeleteNode(disk_.node);
  bool is_gone = false;
  world_.machine().OnEngine(
      [&] { is_gone = !world_.machine().engine().graph.Find(disk_.node).ok(); });
  // Refused: then it is as it was, with its bitmaps.
  if (!is_gone) return;
  for (auto bitmap = disk_.bitmaps.begin(); bitmap != disk_.bitmaps.end();) {
    if (!bitmap->second.persistent) BreakChain(bitmap->first);
    bitmap = bitmap->second.persistent ? std::next(bitmap) : disk_.bitmaps.erase(bitmap);
  }
  disk_.file_bitmaps.clear();
  for (bool is_open = false; !is_open; world_.Rest(absl::Seconds(1))) {
    if (world_.dark()) return;
    // That of before, or of an attempt that failed because its file does.
    if (!disk_.file_node.empty()) DeleteNode(disk_.file_node);
    is_open = world_.AddNode(disk_).ok();
  }
  if (!world_.dark()) world_.JudgeStoredBitmaps(disk_);
}

void Operator::AddTarget(const Backup& backup, bool fleece) {
  const std::string& base = backup.base;
  NewImage image;
  image.driver = backup.driver;
  image.size_bytes = disk_.model.size_bytes();
  image.cluster_bytes = chance_.Of<uint64_t>({512, 4096, 65536, 65536, 131072});
  image.backing = base;
  image.backing_driver = "raw";
  for (const Backup& earlier : backups_) {
    if (earlier.path == base) image.backing_driver = earlier.driver;
  }
  MakeImage(world_.machine().disks(), backup.path, image);
  if (image.driver == "raw" && chance_.OneIn(2)) {
    // Not a new file: what it holds is to be overwritten, by zeroes, too.
    storage::MemoryStorage used(image.size_bytes);
    const std::vector<std::byte> old(image.size_bytes, std::byte{0x5a});
    if (!used.Write(0, old, {}).ok()) Fail(absl::StrCat("cannot fill ", backup.path));
    world_.machine().disks().Put(backup.path, used);
  }
  BlockdevAddRequest request;
  BlockdevOptions& options = *request.mutable_options();
  options.set_node_name(backup.node);
  options.set_discard(BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  BlockdevRef* file = options.mutable_raw()->mutable_file();
  if (backup.driver == "qcow2") {
    file = options.mutable_qcow2()->mutable_file();
    if (fleece) options.mutable_qcow2()->mutable_backing()->set_reference(disk_.node);
    // The last backup is still open, as the node that its file is named after. A copy does not read
    // what is below its target.
    if (!fleece && absl::StartsWith(base, "/targets/")) {
      if (chance_.OneIn(2)) {
        options.mutable_qcow2()->mutable_backing()->mutable_none();
      } else {
        options.mutable_qcow2()->mutable_backing()->set_reference(base.substr(9));
      }
    }
  }
  file->mutable_definition()->mutable_file()->set_filename(backup.path);
  (void)Call<BlockdevAddResponse>(request);
}

void Operator::DeleteNode(const std::string& node) {
  BlockdevDelRequest request;
  request.set_node_name(node);
  (void)Call<BlockdevDelResponse>(request);
}

bool Operator::Start(Backup backup) {
  BlockdevBackupRequest request;
  request.set_job_id(backup.job);
  request.set_device(disk_.node);
  request.set_target(backup.node);
  request.set_sync(backup.sync);
  if (!backup.bitmap.empty()) {
    request.set_bitmap(backup.bitmap);
    request.set_bitmap_mode(backup.bitmap_mode);
    backup.marked = disk_.bitmaps.at(backup.bitmap).Marked(disk_.model);
  }
  if (disk_.quiet) {
    // Slow enough to be judged.
    backup.speed = chance_.Between(1, 8) << 16;
  } else if (chance_.OneIn(3)) {
    backup.speed = chance_.Between(1, 64) << 16;
  }
  // Or as good as none: what fails is told all the same.
  Chance slow(world_.seed(), absl::StrCat("slow", number_), names_);
  if (!disk_.quiet && backup.speed > 0 && slow.OneIn(4)) backup.speed = 1;
  request.set_speed(backup.speed);
  backup.size_bytes = disk_.model.size_bytes();
  const auto policy = [&] {
    return chance_.Of({BLOCKDEV_ON_ERROR_UNSPECIFIED, BLOCKDEV_ON_ERROR_REPORT,
                       BLOCKDEV_ON_ERROR_IGNORE, BLOCKDEV_ON_ERROR_STOP, BLOCKDEV_ON_ERROR_ENOSPC});
  };
  request.set_on_source_error(policy());
  request.set_on_target_error(policy());
  if (chance_.OneIn(3)) request.set_auto_finalize(false);
  if (chance_.OneIn(3)) request.set_auto_dismiss(false);
  if (disk_.quiet || chance_.OneIn(2)) {
    backup.chunk_bytes = 65536 << chance_.Below(disk_.quiet ? 2 : 4);
    request.mutable_x_perf()->set_max_chunk(backup.chunk_bytes);
  }
  // Alone, or together with a new bitmap that begins at the same instant.
  const bool transaction = backup.bitmap.empty() && chance_.OneIn(2);
  std::string bitmap;
  backup.hits_before = world_.machine().disks().HitsOf(backup.path).size();
  backup.from = world_.machine().now();
  absl::Status status;
  if (transaction) {
    TransactionRequest actions;
    BlockDirtyBitmapAddRequest add;
    bitmap = NewName("bitmap");
    add.set_node(disk_.node);
    add.set_name(bitmap);
    add.set_granularity(65536);
    add.set_persistent(disk_.driver == "qcow2" && chance_.OneIn(2));
    *actions.add_actions()->mutable_block_dirty_bitmap_add() = add;
    *actions.add_actions()->mutable_blockdev_backup() = request;
    status = Call<TransactionResponse>(actions).status();
    if (status.ok()) {
      BitmapModel model(add.persistent(), add.granularity());
      model.Enable(world_.machine().now());
      disk_.bitmaps.emplace(bitmap, std::move(model));
    }
  } else {
    status = Call<BlockdevBackupResponse>(request).status();
  }
  backup.to = world_.machine().now();
  if (!status.ok()) return false;
  backup.begins_chain = bitmap;
  ++world_.counts().backups;
  backups_.push_back(std::move(backup));
  return true;
}

void Operator::BackUp() {
  int under_way = 0;
  for (const Backup& backup : backups_) under_way += backup.judged ? 0 : 1;
  if (under_way >= kBackupsAtOnceMax) return AwaitSome();
  Backup backup;
  backup.job = NewName("job");
  backup.node = NewName("target");
  backup.path = absl::StrCat("/targets/", backup.node);
  backup.driver = "qcow2";
  const std::string bitmap = FreeBitmap();
  // Of what lies quiet often to where its speed can be judged.
  const bool plain = disk_.quiet && chance_.OneIn(2);
  switch (plain ? 0 : bitmap.empty() ? chance_.Below(2) : chance_.Below(6)) {
    case 0:
      backup.driver = plain ? "raw" : chance_.Of<const char*>({"qcow2", "raw"});
      break;
    case 1:
      backup.sync = MIRROR_SYNC_MODE_TOP;
      backup.base = disk_.backing;
      break;
    case 2:
      backup.bitmap = bitmap;
      backup.bitmap_mode = chance_.Of({BITMAP_SYNC_MODE_ON_SUCCESS, BITMAP_SYNC_MODE_ALWAYS});
      break;
    default: {
      backup.bitmap = bitmap;
      backup.sync = MIRROR_SYNC_MODE_BITMAP;
      backup.bitmap_mode = chance_.Of(
          {BITMAP_SYNC_MODE_ON_SUCCESS, BITMAP_SYNC_MODE_ALWAYS, BITMAP_SYNC_MODE_NEVER});
      const auto found = last_good_.find(bitmap);
      if (found != last_good_.end()) backup.base = found->second;
      break;
    }
  }
  backup.whole = backup.sync != MIRROR_SYNC_MODE_BITMAP || !backup.base.empty();
  AddTarget(backup, /*fleece=*/false);
  const std::string node = backup.node;
  if (!Start(std::move(backup))) DeleteNode(node);
}

void Operator::BackUpToFile() {
  Backup backup;
  backup.job = NewName("job");
  DriveBackupRequest request;
  request.set_job_id(backup.job);
  request.set_device(disk_.node);
  backup.path = absl::StrCat("/targets/", NewName("drive"));
  // The source's own file must be refused, whoever uses it.
  if (disk_.driver == "raw" && chance_.OneIn(4)) backup.path = disk_.path;
  request.set_target(backup.path);
  backup.sync = chance_.Of({MIRROR_SYNC_MODE_FULL, MIRROR_SYNC_MODE_TOP});
  request.set_sync(backup.sync);
  request.set_mode(NEW_IMAGE_MODE_ABSOLUTE_PATHS);
  const std::string format = chance_.Of<const char*>({"", "qcow2", "raw"});
  if (!format.empty()) request.set_format(format);
  backup.driver = format.empty() ? disk_.driver : format;
  request.set_on_target_error(chance_.Of({BLOCKDEV_ON_ERROR_REPORT, BLOCKDEV_ON_ERROR_STOP}));
  backup.size_bytes = disk_.model.size_bytes();
  backup.from = world_.machine().now();
  const absl::Status status = Call<DriveBackupResponse>(request).status();
  backup.to = world_.machine().now();
  if (!status.ok()) return;
  ++world_.counts().backups;
  backups_.push_back(std::move(backup));
}

void Operator::Fleece() {
  Backup backup;
  backup.job = NewName("job");
  backup.node = NewName("target");
  backup.path = absl::StrCat("/targets/", backup.node);
  backup.driver = "qcow2";
  backup.sync = MIRROR_SYNC_MODE_NONE;
  AddTarget(backup, /*fleece=*/true);
  std::string shown = backup.node;
  if (chance_.OneIn(3)) {
    // Through another node above the overlay.
    BlockdevAddRequest above;
    above.mutable_options()->set_node_name(NewName("above"));
    above.mutable_options()->mutable_raw()->mutable_file()->set_reference(backup.node);
    if (!Call<BlockdevAddResponse>(above).ok()) return;
    backup.node = above.options().node_name();
    // Readers may use either.
    if (chance_.OneIn(2)) shown = backup.node;
  }
  const std::string job = backup.job;
  const std::string node = backup.node;
  if (!Start(std::move(backup))) return DeleteNode(node);
  const Moment from = backups_.back().from;
  const Moment to = backups_.back().to;
  std::vector<std::byte> data(disk_.model.size_bytes());
  std::vector<bool> unread(data.size() / kSectorBytes, true);
  {
    const NodeUser reader(&world_, shown, "reader of " + shown, /*writes=*/false);
    const uint64_t piece = kSectorBytes * chance_.Between(1, 512);
    for (uint64_t at = 0; reader.port() != nullptr && at < data.size() && !world_.dark();
         at += piece) {
      const uint64_t length = std::min<uint64_t>(piece, data.size() - at);
      const bool well = reader.port()->Read(at, storage::Bytes(data.data() + at, length)).ok();
      world_.ReadEvents();
      const Ledger::Job* const told = world_.ledger().Find(job);
      // Once the job has begun to end, the target shows what it likes.
      if (told == nullptr ||
          (told->status != JOB_STATUS_RUNNING && told->status != JOB_STATUS_PAUSED)) {
        break;
      }
      for (uint64_t s = at / kSectorBytes; well && s < (at + length) / kSectorBytes; ++s) {
        unread[s] = false;
      }
    }
  }
  if (!world_.dark()) {
    const std::string wrong = disk_.model.JudgeInstant(data, from, to, /*gated=*/true, unread);
    if (!wrong.empty()) Fail(absl::StrCat("fleecing by ", job, " of ", disk_.node, ": ", wrong));
  }
  BlockJobCancelRequest cancel;
  cancel.set_device(job);
  // Also if somebody has paused it.
  cancel.set_force(true);
  (void)Call<BlockJobCancelResponse>(cancel);
}

void Operator::AwaitSome() {
  for (const Backup& backup : backups_) {
    if (backup.judged || chance_.OneIn(2)) continue;
    const Ledger::Job* told = nullptr;
    // A while, not for ever: it may be paused, or wait to be finalized.
    for (int i = 0; i < 20 && !world_.dark(); ++i) {
      world_.ReadEvents();
      told = world_.ledger().Find(backup.job);
      if (told != nullptr && told->concluded()) break;
      world_.AwaitEvents();
    }
    return;
  }
}

}  // namespace tidemark::simulation
