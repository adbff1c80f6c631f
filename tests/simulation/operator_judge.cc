// How an operator judges what it has been told: backups by what their targets hold for good,
// bitmaps by what must be marked.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/offline.h"
#include "tests/simulation/operator.h"

namespace tidemark::simulation {
namespace {

using namespace block::v1;  // NOLINT: about messages.

// A backup of so small a disk, if nothing hinders it.
constexpr absl::Duration kBackupMax = absl::Seconds(5);

bool MayHandOver(BitmapSyncMode mode) { return mode != BITMAP_SYNC_MODE_NEVER; }

}  // namespace

void Operator::Judge() {
  world_.ReadEvents();
  for (Backup& backup : backups_) {
    const Ledger::Job* const told = world_.ledger().Find(backup.job);
    if (backup.judged || told == nullptr || !told->concluded() || world_.dark()) continue;
    JudgeOne(backup);
  }
}

void Operator::JudgeOne(Backup& backup) {
  backup.judged = true;
  backup.good = world_.ledger().Find(backup.job)->succeeded();
  if (backup.good) ++world_.counts().good_backups;
  const uint64_t size_bytes = backup.size_bytes;
  if (backup.good && backup.sync != MIRROR_SYNC_MODE_NONE) {
    const absl::StatusOr<std::vector<std::byte>> data =
        ReadDurableImage(world_.machine().disks(), backup.path, backup.driver, size_bytes);
    if (!data.ok()) {
      Fail(absl::StrCat("backup ", backup.job,
                        " succeeded, and its target cannot be read: ", data.status().ToString()));
    }
    std::vector<bool> skip;
    if (!backup.whole) {
      skip = backup.marked;
      skip.flip();
    }
    const std::string wrong =
        disk_.model.JudgeInstant(*data, backup.from, backup.to, /*gated=*/true, skip);
    if (!wrong.empty()) {
      Fail(absl::StrCat("backup ", backup.job, " of ", disk_.node, " to ", backup.path, ": ",
                        wrong));
    }
  }
  if (!backup.bitmap.empty()) HandBitmapOver(backup, backup.good);
  if (backup.good) JudgeSpeed(backup);
  JudgePace(backup);
  if (backup.good && !backup.begins_chain.empty() && backup.whole &&
      backup.sync != MIRROR_SYNC_MODE_NONE && disk_.bitmaps.contains(backup.begins_chain)) {
    last_good_[backup.begins_chain] = backup.path;
  }
}

void Operator::BreakChain(const std::string& bitmap) {
  last_good_.erase(bitmap);
  // Nor is a full backup that is still under way a base for what the bitmap says from now on.
  for (Backup& backup : backups_) {
    if (backup.begins_chain == bitmap) backup.begins_chain.clear();
  }
}

void Operator::HandBitmapOver(const Backup& backup, bool well) {
  BitmapModel& model = disk_.bitmaps.at(backup.bitmap);
  if (well && MayHandOver(backup.bitmap_mode)) {
    model.Clear(backup.to);
    BreakChain(backup.bitmap);
    if (backup.whole && model.enabled()) last_good_[backup.bitmap] = backup.path;
    return;
  }
  if (well || backup.bitmap_mode != BITMAP_SYNC_MODE_ALWAYS) return;
  // What it says no more is in the target, for good.
  const std::vector<bool> dirty = DirtySectors(backup.bitmap);
  std::vector<bool> skip(backup.marked.size());
  std::vector<bool> left(backup.marked.size());
  bool all_left = true;
  for (size_t i = 0; i < skip.size(); ++i) {
    left[i] = backup.marked[i] && dirty[i];
    skip[i] = !backup.marked[i] || dirty[i];
    all_left = all_left && skip[i];
  }
  if (!all_left) {
    const absl::StatusOr<std::vector<std::byte>> data = ReadDurableImage(
        world_.machine().disks(), backup.path, backup.driver, disk_.model.size_bytes());
    const std::string wrong =
        !data.ok() ? std::string(data.status().message())
                   : disk_.model.JudgeInstant(*data, backup.from, backup.to, true, skip);
    if (!wrong.empty()) {
      Fail(absl::StrCat("backup ", backup.job, " failed, and bitmap ", backup.bitmap,
                        " no longer says what it did not copy for good: ", wrong));
    }
  }
  BreakChain(backup.bitmap);
  model.Clear(backup.to);
  model.Merge(left);
}

std::vector<bool> Operator::DirtySectors(const std::string& name) {
  std::vector<std::shared_ptr<bitmap::DirtyBitmap>> bits;
  uint64_t size_bytes = 0;
  world_.machine().OnEngine([&] {
    const auto node = world_.machine().engine().graph.Find(disk_.node);
    if (!node.ok()) return;
    size_bytes = (*node)->storage()->size_bytes();
    const auto bitmap = (*node)->bitmaps().Find(name);
    if (!bitmap.ok()) return;
    bits.push_back((*bitmap)->bits());
    if ((*bitmap)->successor() != nullptr) bits.push_back((*bitmap)->successor()->bits());
  });
  std::vector<bool> dirty(disk_.model.size_bytes() / kSectorBytes);
  if (bits.empty() && !world_.dark()) {
    Fail(absl::StrCat("bitmap ", name, " of ", disk_.node, " is gone"));
  }
  for (const auto& some : bits) {
    if (some->size_bytes() == size_bytes || world_.dark()) continue;
    Fail(absl::StrCat("bitmap ", name, " of ", disk_.node, " stands for ", some->size_bytes(),
                      " bytes of ", size_bytes));
  }
  for (size_t sector = 0; sector < dirty.size(); ++sector) {
    for (const auto& some : bits) {
      dirty[sector] = dirty[sector] || some->IsDirty(sector * kSectorBytes);
    }
  }
  return dirty;
}

void Operator::JudgeBitmaps(const std::string& after) {
  for (const auto& [name, model] : disk_.bitmaps) {
    if (IsBusy(name)) continue;
    // First what must be, then what is: guests go on.
    const std::vector<bool> marked = model.Marked(disk_.model);
    const std::vector<bool> dirty = DirtySectors(name);
    if (world_.dark()) return;
    for (size_t sector = 0; sector < marked.size(); ++sector) {
      if (!marked[sector] || dirty[sector]) continue;
      Fail(absl::StrCat("after ", after, " bitmap ", name, " of ", disk_.node,
                        " does not say that sector ", sector, " was changed"));
    }
  }
}

void Operator::JudgeFileBitmaps(const std::string& after) {
  const std::vector<Disks::Written>& changes = world_.machine().disks().Watch(disk_.path);
  for (const auto& [name, first] : disk_.file_bitmaps) {
    // First what must be, then what is. What belongs to a request that has not ended may not be
    // marked yet: marks follow what they tell of.
    std::vector<Range> must;
    const size_t end = disk_.under_way.empty() ? changes.size() : *disk_.under_way.begin();
    for (size_t i = first; i < end; ++i) {
      if (changes[i].well) must.push_back(changes[i].range);
    }
    std::shared_ptr<bitmap::DirtyBitmap> bits;
    world_.machine().OnEngine([&] {
      const auto node = world_.machine().engine().graph.Find(disk_.file_node);
      if (!node.ok()) return;
      const auto bitmap = (*node)->bitmaps().Find(name);
      if (bitmap.ok()) bits = (*bitmap)->bits();
    });
    if (world_.dark()) return;
    if (bits == nullptr) Fail(absl::StrCat("bitmap ", name, " of ", disk_.file_node, " is gone"));
    for (const Range& range : must) {
      for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += kSectorBytes) {
        if (bits->IsDirty(at)) continue;
        Fail(absl::StrCat("after ", after, " bitmap ", name, " of ", disk_.file_node,
                          " does not say that byte ", at, " was changed, by a write of ",
                          range.offset_bytes, "+", range.length_bytes));
      }
    }
  }
}

void Operator::JudgeSpeed(const Backup& backup) {
  const Ledger::Job& told = *world_.ledger().Find(backup.job);
  // Only what the job did by itself, at one speed, and where nothing is written but what is copied.
  if (backup.speed == 0 || !disk_.quiet || told.speed_changed || backup.driver != "raw") return;
  const double seconds = absl::ToDoubleSeconds(told.ended - told.began);
  const uint64_t moved = world_.machine().disks().written_bytes(backup.path);
  if (seconds < 4 || moved < 20 * backup.chunk_bytes) return;
  const double most = 1.05 * static_cast<double>(backup.speed) * seconds + 2.0 * backup.chunk_bytes;
  if (static_cast<double>(moved) <= most) return;
  Fail(absl::StrCat("backup ", backup.job, " wrote ", moved, " bytes in ", seconds,
                    " seconds at a speed of ", backup.speed));
}

// Whatever other disks do, a job whose own are well goes on.
void Operator::JudgePace(const Backup& backup) {
  const Ledger::Job& told = *world_.ledger().Find(backup.job);
  if (backup.sync == MIRROR_SYNC_MODE_NONE || backup.speed != 0) return;
  if (told.speed_changed || told.paused) return;
  const Disks& disks = world_.machine().disks();
  for (const std::string& path : {disk_.path, disk_.backing, backup.path, backup.base}) {
    if (!path.empty() && disks.HasHit(path)) return;
  }
  const absl::Duration took = told.ended - told.began;
  if (took <= kBackupMax) return;
  Fail(absl::StrCat("backup ", backup.job, " took ", absl::FormatDuration(took),
                    ", and its disks are well"));
}

void Operator::JudgeTold() {
  for (const Backup& backup : backups_) {
    const Ledger::Job* const told = world_.ledger().Find(backup.job);
    if (told == nullptr || told->concluded() || told->error_events > 0) continue;
    const std::vector<Disks::Hit> hits = world_.machine().disks().HitsOf(backup.path);
    for (size_t i = backup.hits_before; i < hits.size(); ++i) {
      // What the background could not write is tried again after a pause, and may not be told.
      const bool of_guests = hits[i].by == "td-guest";
      const bool writes =
          hits[i].verb == storage::Verb::kWrite || hits[i].verb == storage::Verb::kWriteZeroes;
      if (!of_guests || !writes || hits[i].stood_still()) continue;
      Fail(absl::StrCat("job ", backup.job, " has not told that its target failed under a guest"));
    }
  }
}

void Operator::JudgeWhatIsLeft() {
  Judge();
  JudgeBitmaps("all");
  JudgeFileBitmaps("all");
}

}  // namespace tidemark::simulation
