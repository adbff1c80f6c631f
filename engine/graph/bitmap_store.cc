#include "engine/graph/bitmap_store.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/bitmap/limits.h"
#include "engine/graph/limits.h"

namespace tidemark::graph {

using bitmap::DirtyBitmap;

namespace {

// Anonymous bitmaps have no name to show.
std::string Describe(const Bitmap& bitmap) {
  return bitmap.name().empty() ? "an unnamed bitmap" : absl::StrCat("bitmap '", bitmap.name(), "'");
}

}  // namespace

BitmapStore::BitmapStore(std::string node_name, bool node_read_only, Driver* driver,
                         std::shared_ptr<TrackedBitmaps> tracked)
    : node_name_(std::move(node_name)),
      tracked_(std::move(tracked)),
      node_read_only_(node_read_only),
      driver_(driver) {}

void BitmapStore::ChangeDriver(Driver* driver, bool node_read_only) {
  driver_ = driver;
  node_read_only_ = node_read_only;
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->persistent_) bitmap->read_only_ = node_read_only;
  }
  Publish();
  FollowDisk();
}

uint64_t BitmapStore::size_bytes() const { return driver_->storage()->size_bytes(); }

uint64_t BitmapStore::default_granularity_bytes() const {
  const uint64_t cluster_bytes = driver_->storage()->limits().cluster_size_bytes;
  if (cluster_bytes == 0) return kBitmapDefaultGranularityMaxBytes;
  return std::clamp(absl::bit_floor(cluster_bytes), kBitmapDefaultGranularityMinBytes,
                    kBitmapDefaultGranularityMaxBytes);
}

void BitmapStore::Load(std::vector<StoredBitmap> bitmaps) {
  for (StoredBitmap& stored : bitmaps) {
    Bitmap* bitmap = Insert(std::move(stored.name), std::move(stored.bits), stored.enabled);
    bitmap->persistent_ = true;
    bitmap->inconsistent_ = stored.inconsistent;
    bitmap->read_only_ = node_read_only_;
    if (bitmap->inconsistent_) bitmap->enabled_ = false;
  }
  Publish();
}

Bitmap* BitmapStore::Insert(std::string name, std::shared_ptr<DirtyBitmap> bits, bool enabled) {
  std::unique_ptr<Bitmap> bitmap(new Bitmap);
  bitmap->name_ = std::move(name);
  bitmap->bits_ = std::move(bits);
  bitmap->enabled_ = enabled;
  bitmaps_.push_back(std::move(bitmap));
  return bitmaps_.back().get();
}

void BitmapStore::Erase(Bitmap* bitmap) {
  bitmaps_.remove_if([&](const auto& owned) { return owned.get() == bitmap; });
}

void BitmapStore::Publish() {
  TrackedBitmaps::List recording;
  TrackedBitmaps::List all;
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->inconsistent_) continue;
    all.push_back(bitmap->bits_);
    // While a successor records, the bitmap itself stands still.
    if (bitmap->enabled_ && bitmap->successor_ == nullptr) recording.push_back(bitmap->bits_);
  }
  TrackedBitmaps::SizeCheck check;
  std::vector<BitmapShape> shapes = PersistentShapes();
  if (!shapes.empty() && !node_read_only_) {
    check = [driver = driver_, node_name = node_name_,
             shapes = std::move(shapes)](uint64_t size_bytes) {
      return driver->CheckStorable(node_name, shapes, size_bytes);
    };
  }
  tracked_->Set(std::move(recording), std::move(all), std::move(check));
}

std::vector<BitmapShape> BitmapStore::PersistentShapes() const {
  std::vector<BitmapShape> shapes;
  for (const auto& bitmap : bitmaps_) {
    if (!bitmap->persistent_) continue;
    shapes.push_back({bitmap->name_, bitmap->bits_->granularity_bytes()});
  }
  return shapes;
}

// ---- Looking ----

bool BitmapStore::Has(absl::string_view name) const {
  return absl::c_any_of(bitmaps_, [&](const auto& bitmap) { return bitmap->name_ == name; });
}

absl::StatusOr<Bitmap*> BitmapStore::Find(absl::string_view name) {
  FollowDisk();
  for (const auto& bitmap : bitmaps_) {
    if (!name.empty() && bitmap->name_ == name) return bitmap.get();
  }
  // Shown to whoever lists the bitmaps, but no request can hold it.
  const bool is_only_shown_so =
      absl::c_any_of(bitmaps_, [&](const auto& bitmap) { return ToUtf8(bitmap->name_) == name; });
  return Error(Reason::kBitmapNotFound,
               absl::StrCat("node '", node_name_, "' has no bitmap '", name, "'",
                            is_only_shown_so ? ": the one that is shown so has a name that is not "
                                               "UTF-8, so it cannot be named; close the image and "
                                               "use `qemu-img bitmap`, which takes any bytes"
                                             : ""),
               {{"node", node_name_}, {"bitmap", name}});
}

absl::Status BitmapStore::Check(const Bitmap& bitmap, BitmapUse use) const {
  const auto refuse = [&](Reason reason, absl::string_view why) {
    return Error(reason,
                 absl::StrCat("bitmap '", bitmap.name_, "' of node '", node_name_, "' ", why),
                 {{"node", node_name_}, {"bitmap", bitmap.name_}});
  };
  if (bitmap.busy()) {
    return refuse(Reason::kBitmapBusy, "is in use by another operation and cannot be used");
  }
  if (bitmap.read_only_ && use != BitmapUse::kRead) {
    return refuse(Reason::kBitmapReadOnly, "is read-only and cannot be modified");
  }
  if (bitmap.inconsistent_ && use != BitmapUse::kRemove) {
    return refuse(Reason::kBitmapInconsistent,
                  "is inconsistent, because its image was not closed cleanly, and cannot be used: "
                  "remove it with block-dirty-bitmap-remove");
  }
  return absl::OkStatus();
}

absl::StatusOr<Bitmap*> BitmapStore::FindFor(absl::string_view name, BitmapUse use) {
  ASSIGN_OR_RETURN(Bitmap * bitmap, Find(name));
  RETURN_IF_ERROR(Check(*bitmap, use));
  return bitmap;
}

std::vector<BitmapInfo> BitmapStore::List() const {
  std::vector<BitmapInfo> infos;
  for (auto it = bitmaps_.rbegin(); it != bitmaps_.rend(); ++it) {
    const Bitmap& bitmap = **it;
    infos.push_back({.name = bitmap.name_,
                     .count_bytes = bitmap.bits_->CountBytes(),
                     .granularity_bytes = bitmap.bits_->granularity_bytes(),
                     .recording = bitmap.enabled_,
                     .busy = bitmap.busy(),
                     .persistent = bitmap.persistent_,
                     .inconsistent = bitmap.inconsistent_ || !CanFollow(bitmap, size_bytes())});
  }
  return infos;
}

uint64_t BitmapStore::memory_bytes() const {
  uint64_t bytes = 0;
  for (const auto& bitmap : bitmaps_) {
    bytes += bitmap->bits_->MemoryBytes();
    if (bitmap->successor_ != nullptr) bytes += bitmap->successor_->bits_->MemoryBytes();
  }
  for (const auto& [owner, also] : counted_also_) bytes += also();
  return bytes;
}

void BitmapStore::CountAlso(const void* owner, std::function<uint64_t()> bytes) {
  counted_also_[owner] = std::move(bytes);
}

void BitmapStore::CountNoMore(const void* owner) { counted_also_.erase(owner); }

std::vector<StoredBitmap> BitmapStore::Stored() const {
  std::vector<StoredBitmap> stored;
  for (auto it = bitmaps_.rbegin(); it != bitmaps_.rend(); ++it) {
    const auto& bitmap = *it;
    if (!bitmap->persistent_) continue;
    std::shared_ptr<DirtyBitmap> bits = bitmap->bits_;
    if (bitmap->successor_ != nullptr) {
      // Only when everything is torn down at once: nothing that is dirty may be lost.
      bits = bits->Copy();
      tracked_->MergeInto(bits.get(), *bitmap->successor_->bits_);
    }
    stored.push_back({.name = bitmap->name_,
                      .enabled = bitmap->enabled_,
                      .inconsistent = bitmap->inconsistent_,
                      .bits = std::move(bits)});
  }
  return stored;
}

// ---- The disk's size ----

bool BitmapStore::CanFollow(const Bitmap& bitmap, uint64_t size_bytes) const {
  return DirtyBitmap::GranuleCount(size_bytes, bitmap.bits_->granularity_bytes()) <=
         bitmap::kGranuleCountMax;
}

absl::Status BitmapStore::CheckResize(uint64_t size_bytes) const {
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->inconsistent_) {
      return Annotate(Check(*bitmap, BitmapUse::kRead),
                      absl::StrCat("cannot resize node '", node_name_, "'"));
    }
    if (CanFollow(*bitmap, size_bytes)) continue;
    return Error(Reason::kLimitReached,
                 absl::StrCat("cannot resize node '", node_name_, "' to ", size_bytes,
                              " bytes: ", Describe(*bitmap), " of granularity ",
                              bitmap->bits_->granularity_bytes(), " cannot follow"),
                 {{"node", node_name_}, {"bitmap", bitmap->name_}});
  }
  return absl::OkStatus();
}

void BitmapStore::FollowDisk() {
  const uint64_t disk_bytes = size_bytes();
  bool any_lost = false;
  for (const auto& bitmap : bitmaps_) {
    if (bitmap->inconsistent_ || CanFollow(*bitmap, disk_bytes)) continue;
    bitmap->inconsistent_ = true;
    bitmap->enabled_ = false;
    any_lost = true;
  }
  if (any_lost) Publish();
  tracked_->Follow(*driver_->storage());
}

// ---- Changing ----

absl::Status BitmapStore::CheckGranularity(absl::string_view name, uint64_t size_bytes,
                                           uint64_t granularity_bytes) const {
  const std::string granularity = absl::StrCat(granularity_bytes);
  if (!absl::has_single_bit(granularity_bytes) ||
      granularity_bytes < bitmap::kGranularityBytesMin ||
      granularity_bytes > bitmap::kGranularityBytesMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("cannot add bitmap '", name, "' to node '", node_name_,
                              "': granularity ", granularity, " is not a power of two from ",
                              bitmap::kGranularityBytesMin, " to ", bitmap::kGranularityBytesMax),
                 {{"node", node_name_}, {"bitmap", name}, {"granularity", granularity}});
  }
  if (DirtyBitmap::GranuleCount(size_bytes, granularity_bytes) > bitmap::kGranuleCountMax) {
    return Error(
        Reason::kLimitReached,
        absl::StrCat("cannot add bitmap '", name, "' to node '", node_name_, "': granularity ",
                     granularity, " is too small for ", size_bytes, " bytes"),
        {{"node", node_name_}, {"bitmap", name}, {"granularity", granularity}});
  }
  return absl::OkStatus();
}

absl::Status BitmapStore::CheckAdd(const AddRequest& request, uint64_t size_bytes,
                                   uint64_t granularity_bytes) const {
  const auto refuse = [&](Reason reason, absl::string_view why) {
    return Error(
        reason,
        absl::StrCat("cannot add bitmap '", request.name, "' to node '", node_name_, "': ", why),
        {{"node", node_name_}, {"bitmap", request.name}});
  };
  if (request.name.empty()) return refuse(Reason::kInvalidField, "the name is empty");
  if (request.name.size() > kBitmapNameLengthMax) {
    return refuse(Reason::kInvalidField,
                  absl::StrCat("the name is ", request.name.size(), " bytes long, more than the ",
                               kBitmapNameLengthMax, " that are allowed"));
  }
  RETURN_IF_ERROR(CheckGranularity(request.name, size_bytes, granularity_bytes));
  if (Has(request.name)) return refuse(Reason::kBitmapExists, "it has one of that name already");
  if (bitmaps_.size() >= kBitmapsPerNodeMax) {
    return refuse(Reason::kLimitReached, absl::StrCat("it has ", kBitmapsPerNodeMax, " already"));
  }
  if (request.persistent && node_read_only_) {
    return refuse(Reason::kNodeReadOnly, "it is read-only, and could not store it");
  }
  if (request.persistent) {
    std::vector<BitmapShape> shapes = PersistentShapes();
    shapes.push_back({request.name, granularity_bytes});
    RETURN_IF_ERROR(driver_->CheckStorable(node_name_, shapes, size_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<Change> BitmapStore::Add(const AddRequest& request) {
  const uint64_t granularity_bytes =
      request.granularity_bytes.value_or(default_granularity_bytes());
  // Asked once: the disk may grow at any moment. Whoever finds the bitmap finds it grown, too.
  const uint64_t disk_bytes = size_bytes();
  RETURN_IF_ERROR(CheckAdd(request, disk_bytes, granularity_bytes));
  Bitmap* bitmap =
      Insert(request.name, std::make_shared<DirtyBitmap>(disk_bytes, granularity_bytes),
             !request.disabled);
  bitmap->persistent_ = request.persistent;
  Publish();
  return Change{.undo = [this, bitmap] {
    Erase(bitmap);
    Publish();
  }};
}

absl::StatusOr<Change> BitmapStore::Remove(absl::string_view name) {
  ASSIGN_OR_RETURN(Bitmap * bitmap, FindFor(name, BitmapUse::kRemove));
  BeginUse(bitmap);
  return Change{.commit =
                    [this, bitmap] {
                      Erase(bitmap);
                      Publish();
                    },
                .undo = [this, bitmap] { EndUse(bitmap); }};
}

absl::StatusOr<Change> BitmapStore::Clear(absl::string_view name) {
  ASSIGN_OR_RETURN(Bitmap * bitmap, FindFor(name, BitmapUse::kModify));
  std::shared_ptr<DirtyBitmap> before = bitmap->bits_->Copy();
  bitmap->bits_->ClearAll();
  return Change{
      .undo = [this, bitmap, before] { tracked_->MergeInto(bitmap->bits_.get(), *before); }};
}

absl::StatusOr<Change> BitmapStore::SetEnabled(absl::string_view name, bool enabled) {
  ASSIGN_OR_RETURN(Bitmap * bitmap, FindFor(name, BitmapUse::kRead));
  const auto set = [this, bitmap](bool value) {
    bitmap->enabled_ = value;
    Publish();
  };
  const bool before = bitmap->enabled_;
  set(enabled);
  return Change{.undo = [set, before] { set(before); }};
}

absl::StatusOr<Change> BitmapStore::Enable(absl::string_view name) {
  return SetEnabled(name, true);
}
absl::StatusOr<Change> BitmapStore::Disable(absl::string_view name) {
  return SetEnabled(name, false);
}

absl::StatusOr<Change> BitmapStore::Merge(absl::string_view target,
                                          absl::Span<const Bitmap* const> sources) {
  ASSIGN_OR_RETURN(Bitmap * bitmap, FindFor(target, BitmapUse::kModify));
  if (sources.empty()) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("cannot merge into bitmap '", target, "' of node '", node_name_,
                              "': no source is given"),
                 {{"node", node_name_}, {"bitmap", target}});
  }
  for (const Bitmap* source : sources) {
    RETURN_IF_ERROR(Check(*source, BitmapUse::kRead));
    if (source->bits_->size_bytes() == bitmap->bits_->size_bytes()) continue;
    return Error(
        Reason::kSizeMismatch,
        absl::StrCat("cannot merge ", Describe(*source), " into bitmap '", target, "' of node '",
                     node_name_, "': they are of ", source->bits_->size_bytes(), " and ",
                     bitmap->bits_->size_bytes(), " bytes"),
        {{"node", node_name_}, {"bitmap", target}, {"source", source->name_}});
  }
  std::shared_ptr<DirtyBitmap> before = bitmap->bits_->Copy();
  for (const Bitmap* source : sources) tracked_->MergeInto(bitmap->bits_.get(), *source->bits_);
  return Change{.undo = [this, bitmap, before] {
    bitmap->bits_->ClearAll();
    tracked_->MergeInto(bitmap->bits_.get(), *before);
  }};
}

absl::StatusOr<Bitmap*> BitmapStore::AddAnonymous(uint64_t granularity_bytes, bool enabled) {
  const uint64_t disk_bytes = size_bytes();
  RETURN_IF_ERROR(CheckGranularity("", disk_bytes, granularity_bytes));
  Bitmap* bitmap =
      Insert("", std::make_shared<DirtyBitmap>(disk_bytes, granularity_bytes), enabled);
  Publish();
  return bitmap;
}

void BitmapStore::DropAnonymous(Bitmap* bitmap) {
  CHECK(bitmap->name_.empty());
  Erase(bitmap);
  Publish();
}

// ---- Handing over ----

void BitmapStore::CreateSuccessor(Bitmap* bitmap) {
  CHECK(bitmap->successor_ == nullptr);
  BeginUse(bitmap);
  bitmap->successor_ = Insert("", bitmap->bits_->Empty(), bitmap->enabled_);
  Publish();
}

void BitmapStore::UndoSuccessor(Bitmap* bitmap) {
  HandOver(bitmap, BitmapSyncMode::kNever, /*success=*/false, nullptr);
}

void BitmapStore::HandOver(Bitmap* bitmap, BitmapSyncMode mode, bool success,
                           const DirtyBitmap* not_copied) {
  CHECK(bitmap->successor_ != nullptr);
  // The bitmap goes on with the bits of its successor, which holds W and may be marked at this
  // moment; what else stays dirty is added to them. So no write is missed, with the gates open.
  std::shared_ptr<DirtyBitmap> bits = bitmap->successor_->bits_;
  const bool keeps_start =
      mode == BitmapSyncMode::kNever || (mode == BitmapSyncMode::kOnSuccess && !success);
  if (keeps_start) tracked_->MergeInto(bits.get(), *bitmap->bits_);
  if (mode == BitmapSyncMode::kAlways && !success) {
    CHECK(not_copied != nullptr);
    tracked_->MergeInto(bits.get(), *not_copied);
  }
  Erase(std::exchange(bitmap->successor_, nullptr));
  bitmap->bits_ = std::move(bits);
  EndUse(bitmap);
  Publish();
}

}  // namespace tidemark::graph
