#include "tests/simulation/disk.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/cooperation.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/storage_target.h"

namespace tidemark::simulation {
namespace {

using storage::Verb;

constexpr uint64_t kSectorBytes = 512;
// One in so many requests takes a while.
constexpr uint64_t kLateOneIn = 6;

bool Changes(Verb verb) {
  return verb == Verb::kWrite || verb == Verb::kWriteZeroes || verb == Verb::kResize ||
         verb == Verb::kDiscard || verb == Verb::kFlush;
}

absl::string_view NameOf(Verb verb) {
  constexpr absl::string_view kNames[] = {"read",   "write", "write-zeroes", "discard",    "flush",
                                          "resize", "map",   "place-read",   "place-write"};
  return kNames[static_cast<int>(verb)];
}

absl::Status PowerFailure() { return storage::ErrnoStatus(EIO, "the power has failed"); }

}  // namespace

std::string Fault::ToString() const {
  constexpr absl::string_view kNames[] = {"EIO", "ENOSPC", "torn", "slow", "hung"};
  return absl::StrCat(kNames[static_cast<int>(kind)], " at ",
                      verb.has_value() ? NameOf(*verb) : "anything", " of *", file, "* after ",
                      pass_count, lasting ? ", lasting" : "");
}

// A file as one user has it open.
class Disks::OpenFile final : public storage::File {
 public:
  OpenFile(Disks* disks, std::string path, std::shared_ptr<Contained> file,
           const storage::FileOptions& options)
      : disks_(*disks), path_(std::move(path)), file_(std::move(file)), options_(options) {
    file_->users.push_back(&user_);
  }
  ~OpenFile() override {
    file_->users.erase(std::find(file_->users.begin(), file_->users.end(), &user_));
  }

  const std::string& path() const override { return path_; }
  absl::StatusOr<uint64_t> AllocatedBytes() const override {
    // Whoever wants to know asks the disk.
    RETURN_IF_ERROR(disks_.Await(Verb::kRead, path_).status);
    return file_->bytes->size_bytes();
  }
  absl::Status SetPermissions(storage::PermissionSet used, storage::PermissionSet shared) override {
    if (options_.locking == storage::FileOptions::Locking::kOff) return absl::OkStatus();
    const storage::PermissionSet unshared = storage::kPermissionAll & ~shared;
    RETURN_IF_ERROR(disks_.CheckLock(*file_, path_, &user_, used, unshared));
    user_ = {used, unshared};
    return absl::OkStatus();
  }

  storage::FileIdentity identity() const override {
    return {1, reinterpret_cast<uintptr_t>(file_.get())};
  }

  uint64_t size_bytes() const override { return file_->bytes->size_bytes(); }
  storage::Limits limits() const override {
    storage::Limits limits;
    limits.can_discard = options_.discard_unmaps && !options_.read_only;
    limits.can_write_zeroes_fast = !options_.read_only;
    limits.read_only = options_.read_only;
    return limits;
  }
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    RETURN_IF_ERROR(disks_.Await(Verb::kRead, path_).status);
    return file_->bytes->Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    RETURN_IF_ERROR(CheckWritable());
    const Range range{offset_bytes, data.size()};
    const int64_t number = disks_.NoteBegin(path_, range);
    const Verdict verdict = disks_.Await(Verb::kWrite, path_);
    if (verdict.torn) Tear(offset_bytes, data);
    RETURN_IF_ERROR(verdict.status);
    RETURN_IF_ERROR(file_->bytes->Write(offset_bytes, data, options));
    // The data is there; the answer is still on its way.
    Cooperation::current()->Yield();
    disks_.NoteEnd(path_, number, range, true);
    return absl::OkStatus();
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    RETURN_IF_ERROR(CheckWritable());
    RETURN_IF_ERROR(disks_.Await(Verb::kWriteZeroes, path_).status);
    return file_->bytes->WriteZeroes(range, options);
  }
  absl::Status Discard(Range range) override {
    RETURN_IF_ERROR(CheckWritable());
    const Range part = range.Intersect({0, size_bytes()});
    if (!options_.discard_unmaps || part.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(disks_.Await(Verb::kDiscard, path_).status);
    return file_->bytes->Discard(range.Intersect({0, size_bytes()}));
  }
  absl::Status Flush() override {
    if (options_.no_flush || options_.read_only) return absl::OkStatus();
    if (flush_failed_.ok()) flush_failed_ = disks_.Await(Verb::kFlush, path_).status;
    // The kernel forgets the error, and the pages that it was about: so this file cannot.
    RETURN_IF_ERROR(flush_failed_);
    RETURN_IF_ERROR(file_->bytes->Flush());
    // The power may have failed since this was let on.
    return disks_.powered() ? absl::OkStatus() : PowerFailure();
  }
  absl::Status Resize(uint64_t size_bytes) override {
    RETURN_IF_ERROR(CheckWritable());
    RETURN_IF_ERROR(disks_.Await(Verb::kResize, path_).status);
    return file_->bytes->Resize(size_bytes);
  }
  absl::StatusOr<storage::Extent> Map(Range range) override {
    RETURN_IF_ERROR(disks_.Await(Verb::kMap, path_).status);
    return file_->bytes->Map(range);
  }
  // As a file is placed: where nothing is, nothing is read.
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override {
    RETURN_IF_ERROR(disks_.Await(Verb::kPlaceRead, path_).status);
    std::vector<storage::Placement::Piece> pieces;
    while (!range.empty()) {
      ASSIGN_OR_RETURN(const storage::Extent extent, file_->bytes->Map(range));
      const bool is_zero = extent.content == storage::Extent::Content::kZero;
      pieces.push_back({extent.range, is_zero ? nullptr : &target_, extent.range.offset_bytes});
      range = Range::FromTo(extent.range.end_bytes(), range.end_bytes());
    }
    return std::make_unique<Placed>(std::move(pieces));
  }
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override {
    RETURN_IF_ERROR(CheckWritable());
    RETURN_IF_ERROR(disks_.Await(Verb::kPlaceWrite, path_).status);
    std::vector<storage::Placement::Piece> pieces;
    if (!range.empty()) pieces.push_back({range, &target_, range.offset_bytes});
    return std::make_unique<Placed>(std::move(pieces));
  }

 private:
  friend class Disks;

  class Placed final : public storage::Placement {
   public:
    explicit Placed(std::vector<Piece> pieces) { pieces_ = std::move(pieces); }
  };

  absl::Status CheckWritable() const {
    if (!options_.read_only) return absl::OkStatus();
    return Error(Reason::kNodeReadOnly, absl::StrCat("\"", path_, "\" is opened read-only"));
  }
  // Some sectors arrive.
  void Tear(uint64_t offset_bytes, storage::ConstBytes data) {
    for (uint64_t at = 0; at < data.size();) {
      const uint64_t end =
          std::min<uint64_t>(data.size(), kSectorBytes - (offset_bytes + at) % kSectorBytes + at);
      if (disks_.chance_.OneIn(2)) {
        CHECK(file_->bytes->Write(offset_bytes + at, data.subspan(at, end - at), {}).ok());
      }
      at = end;
    }
  }

  Disks& disks_;
  const std::string path_;
  const std::shared_ptr<Contained> file_;
  const storage::FileOptions options_;
  storage::StorageTarget target_{this};
  User user_;
  absl::Status flush_failed_;
};

void Disks::AddFault(Fault fault) { faults_.push_back(std::move(fault)); }

void Disks::LiftFaults() {
  MutexLock lock(&mutex_);
  faults_.clear();
  lifted_.SignalAll();
}

Disks::Verdict Disks::Await(Verb verb, const std::string& path) {
  if (++request_count_ == power_off_at_) PowerOff();
  if (chance_.OneIn(kLateOneIn)) {
    // Nobody wakes it: this sleeps by the clock.
    Cooperation::current()->Sleep(&chance_, absl::Microseconds(1 + chance_.Below(5000)));
  } else {
    Cooperation::current()->Yield();
  }
  Verdict verdict;
  const auto judge = [&] {
    for (size_t i = 0; i < faults_.size(); ++i) {
      Fault& fault = faults_[i];
      if (fault.verb.has_value() ? *fault.verb != verb
                                 : verb == Verb::kMap || verb >= Verb::kPlaceRead) {
        continue;
      }
      if (!absl::StrContains(path, fault.file)) continue;
      if (fault.kind == Fault::Kind::kNoSpace && (!Changes(verb) || verb == Verb::kFlush)) continue;
      if (fault.pass_count > 0) {
        --fault.pass_count;
        continue;
      }
      const Fault hit = fault;
      if (!fault.lasting) faults_.erase(faults_.begin() + i);
      return absl::make_optional(hit);
    }
    return absl::optional<Fault>();
  };
  const absl::optional<Fault> fault = powered_ ? judge() : absl::nullopt;
  if (fault.has_value()) {
    hits_.push_back({path, fault->kind, verb, fibers_.running_name()});
    if (verb == Verb::kFlush && fault->kind <= Fault::Kind::kTorn) flush_failed_.push_back(path);
    const std::string attempted = absl::StrCat("cannot ", NameOf(verb), " \"", path, "\"");
    switch (fault->kind) {
      case Fault::Kind::kTorn:
        verdict.torn = verb == Verb::kWrite;
        [[fallthrough]];
      case Fault::Kind::kError:
        verdict.status = verb == Verb::kFlush ? storage::LossStatus(EIO, attempted)
                                              : storage::ErrnoStatus(EIO, attempted);
        break;
      case Fault::Kind::kNoSpace:
        verdict.status = verb == Verb::kFlush ? storage::LossStatus(ENOSPC, attempted)
                                              : storage::ErrnoStatus(ENOSPC, attempted);
        break;
      case Fault::Kind::kSlow:
        Cooperation::current()->Sleep(&chance_, absl::Milliseconds(500 + chance_.Below(30'000)));
        break;
      case Fault::Kind::kHung: {
        MutexLock lock(&mutex_);
        lifted_.Wait(&mutex_);
        break;
      }
    }
  }
  if (!powered_) verdict = {PowerFailure(), false};
  return verdict;
}

int64_t Disks::NoteBegin(const std::string& path, Range range) {
  const auto found = watched_.find(path);
  if (found == watched_.end()) return -1;
  found->second.push_back({range});
  return static_cast<int64_t>(found->second.size()) - 1;
}

void Disks::NoteEnd(const std::string& path, int64_t number, Range range, bool well) {
  written_bytes_[path] += range.length_bytes;
  if (number >= 0) watched_[path][number].well = well;
}

bool Disks::HasHit(absl::string_view part) const {
  return std::any_of(hits_.begin(), hits_.end(),
                     [&](const Hit& hit) { return absl::StrContains(hit.path, part); });
}

std::vector<Disks::Hit> Disks::HitsOf(absl::string_view part) const {
  std::vector<Hit> hits;
  for (const Hit& hit : hits_) {
    if (absl::StrContains(hit.path, part)) hits.push_back(hit);
  }
  return hits;
}

bool Disks::FlushFailed(absl::string_view part) const {
  return std::any_of(flush_failed_.begin(), flush_failed_.end(),
                     [&](const std::string& path) { return absl::StrContains(path, part); });
}

uint64_t Disks::written_bytes(const std::string& path) const {
  const auto found = written_bytes_.find(path);
  return found == written_bytes_.end() ? 0 : found->second;
}

void Disks::PowerOff() {
  // First: others go on while this looks at the files, and what they flush then is lost.
  powered_ = false;
  for (const auto& [path, file] : files_) survived_[path] = file->bytes->Crash(chance_.Next());
  LiftFaults();
}

void Disks::PowerOn() {
  files_.clear();
  for (const auto& [path, bytes] : survived_) Put(path, *bytes);
  survived_.clear();
  powered_ = true;
}

std::shared_ptr<storage::MemoryStorage> Disks::Contents(const std::string& path) const {
  return files_.at(path)->bytes->CrashLosingNothing();
}

std::shared_ptr<storage::MemoryStorage> Disks::DurableContents(const std::string& path) const {
  return files_.at(path)->bytes->CrashLosingAll();
}

void Disks::Put(const std::string& path, const storage::MemoryStorage& contents) {
  auto file = std::make_shared<Contained>();
  file->bytes = std::make_shared<storage::CrashingStorage>(contents);
  files_[path] = std::move(file);
}

std::vector<std::string> Disks::Paths() const {
  std::vector<std::string> paths;
  for (const auto& [path, file] : files_) paths.push_back(path);
  return paths;
}

absl::Status Disks::CheckLock(const Contained& file, const std::string& path, const User* user,
                              storage::PermissionSet used, storage::PermissionSet unshared) const {
  for (const User* const other : file.users) {
    if (other == user) continue;
    if ((used & other->unshared) == 0 && (unshared & other->used) == 0) continue;
    return Error(Reason::kImageLocked, absl::StrCat("\"", path, "\" is used by another"),
                 {{"filename", path}});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<storage::File>> Disks::Open(const std::string& path,
                                                           const storage::FileOptions& options) {
  RETURN_IF_ERROR(Await(Verb::kMap, path).status);
  const auto found = files_.find(path);
  if (found == files_.end()) {
    return storage::ErrnoStatus(ENOENT, absl::StrCat("cannot open \"", path, "\""));
  }
  auto file = std::make_shared<OpenFile>(this, path, found->second, options);
  RETURN_IF_ERROR(file->SetPermissions(options.permissions_used, options.permissions_shared));
  return file;
}

absl::Status Disks::Create(const std::string& path, uint64_t size_bytes, storage::Preallocation,
                           const std::atomic<bool>*) {
  RETURN_IF_ERROR(Await(Verb::kResize, path).status);
  std::shared_ptr<Contained>& file = files_[path];
  if (file == nullptr) {
    file = std::make_shared<Contained>();
    file->bytes = std::make_shared<storage::CrashingStorage>(storage::MemoryStorage(0));
  }
  const std::shared_ptr<Contained> kept = file;
  constexpr storage::PermissionSet kUsed = storage::kPermissionWrite | storage::kPermissionResize;
  RETURN_IF_ERROR(CheckLock(*kept, path, nullptr, kUsed, storage::kPermissionResize));
  RETURN_IF_ERROR(kept->bytes->Resize(0));
  RETURN_IF_ERROR(kept->bytes->Resize(size_bytes));
  RETURN_IF_ERROR(Await(Verb::kFlush, path).status);
  return kept->bytes->Flush();
}

absl::StatusOr<std::string> Disks::ReadBeginning(const std::string& path, size_t bytes_max) {
  RETURN_IF_ERROR(Await(Verb::kRead, path).status);
  const auto found = files_.find(path);
  if (found == files_.end()) {
    return storage::ErrnoStatus(ENOENT, absl::StrCat("cannot open \"", path, "\""));
  }
  const std::shared_ptr<storage::CrashingStorage> bytes = found->second->bytes;
  std::string beginning(std::min<uint64_t>(bytes_max, bytes->size_bytes()), '\0');
  RETURN_IF_ERROR(bytes->Read(
      0, storage::Bytes(reinterpret_cast<std::byte*>(beginning.data()), beginning.size())));
  return beginning;
}

}  // namespace tidemark::simulation
