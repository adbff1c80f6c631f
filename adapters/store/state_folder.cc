// Where sequences go on. Normally behind the newest event saved, by kRestartGap. Where that is not
// known any more (a damaged database, a full disk), at the number of microseconds since 1970: no
// log makes a million events a second for years, so it lies behind all that was ever told. The
// floor is stored, for a process that is killed before it has saved an event.
#include "adapters/store/state_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/store/read_bodies.h"
#include "adapters/store/salvage.h"
#include "adapters/store/schema.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

namespace v1 = ::tidemark::block::v1;

// Tables of what instances have.
constexpr absl::string_view kJobs = "jobs";
constexpr absl::string_view kExports = "exports";

constexpr char kLost[] =
    "the state folder was in use, but its database is gone or empty; instances that clients "
    "registered must be registered again, and the history of events begins anew";

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return Error(Reason::kIoError, absl::StrCat(what, " '", path, "': ", std::strerror(errno)),
               {{"file", path}});
}

// What callers of the ports are told of an error.
absl::Status AtPort(const absl::Status& status, absl::string_view what) {
  if (status.ok() || DetailsOf(status).has_value()) return Annotate(status, what);
  return Error(Reason::kIoError, absl::StrCat(what, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<StateFolder>> StateFolder::Open(const std::string& folder,
                                                               Clock& clock, Warn warn,
                                                               EventBounds bounds) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return SystemError("Cannot make the state folder", folder);
  }
  const std::string lock_path = folder + "/lock";
  const int lock = open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return SystemError("Cannot use the state folder", folder);
  auto state =
      std::unique_ptr<StateFolder>(new StateFolder(folder, lock, clock, std::move(warn), bounds));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("Cannot use the state folder '", folder, "': another daemon has it"));
  }
  std::string warning;
  {
    MutexLock hold(&state->mutex_);
    absl::Status status = state->OpenDatabase();
    if (state->was_lost_) warning = kLost;
    if (absl::IsDataLoss(status)) {
      absl::StatusOr<std::string> replaced = state->ReplaceDamaged(status);
      status = replaced.status();
      if (replaced.ok()) warning = *std::move(replaced);
    }
    if (!status.ok()) return Annotate(status, "Cannot use the state folder");
  }
  if (!warning.empty()) state->warn_(warning);
  return state;
}

StateFolder::~StateFolder() {
  {
    MutexLock hold(&mutex_);
    events_ = nullptr;
    database_ = nullptr;
  }
  close(lock_);
}

absl::Status StateFolder::OpenDatabase() {
  ASSIGN_OR_RETURN(database_, Database::Open(path()));
  ASSIGN_OR_RETURN(const int64_t version, database_->Ask("PRAGMA user_version"));
  if (version > SchemaVersion()) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", path(), "' was written by a newer Tidemark (version ", version,
                     " of its tables, this one knows ", SchemaVersion(),
                     "); use that one, or another --state_dir"));
  }
  if (version < 0) {
    return absl::DataLossError(absl::StrCat("'", path(), "' is damaged: its version is ", version));
  }
  const bool is_lost = version == 0 && access(mark_path().c_str(), F_OK) == 0;
  if (version > 0) RETURN_IF_ERROR(database_->Check());
  RETURN_IF_ERROR(BringUpSchema(*database_, version, absl::StrCat(path(), ".version-", version)));
  RETURN_IF_ERROR(LookAtTables(*database_));
  // The events of an older one are as whole as they were.
  if (version == 0 && !SetMark()) return SystemError("Cannot write", mark_path());
  ASSIGN_OR_RETURN(Statement id, database_->Prepare("SELECT id FROM log"));
  RETURN_IF_ERROR(id.Step().status());
  log_id_ = std::string(id.Bytes(0));
  events_ = std::make_unique<EventRows>(*database_, bounds_);
  jobs_ = std::make_unique<JobRows>(*database_, bounds_.ended_jobs_max);
  if (!is_lost) return absl::OkStatus();
  was_lost_ = true;
  return StartAnew();
}

absl::StatusOr<std::string> StateFolder::ReplaceDamaged(const absl::Status& damage) {
  const Salvaged salvaged = Salvage(database_.get());
  events_ = nullptr;
  jobs_ = nullptr;
  database_ = nullptr;
  const std::string aside = absl::StrCat(path(), ".damaged-", absl::ToUnixSeconds(clock_.Now()));
  if (std::rename(path().c_str(), aside.c_str()) != 0) {
    return SystemError("Cannot move the damaged database aside", path());
  }
  // The journals belong to it; without them SQLite would not mix them up with the new one.
  for (const char* suffix : {"-wal", "-shm"}) {
    std::rename((path() + suffix).c_str(), (aside + suffix).c_str());
  }
  RETURN_IF_ERROR(OpenDatabase());
  RETURN_IF_ERROR(StartAnew());
  RETURN_IF_ERROR(
      database_->InTransaction([&]() -> absl::Status { return PutBack(salvaged, *database_); }));
  return absl::StrCat("the database of the state folder was damaged (", damage.message(),
                      "); it was moved to '", aside, "', and a new one begun with ",
                      salvaged.instances.size(), " instances, ", salvaged.jobs.size(),
                      " unfinished jobs and ", salvaged.history.size(),
                      " results that could be read; the history of events begins anew");
}

absl::Status StateFolder::StartAnew() {
  start_after_ = std::max(
      start_after_, static_cast<uint64_t>(std::max<int64_t>(absl::ToUnixMicros(clock_.Now()), 0)));
  const absl::Status status = database_->InTransaction([this]() -> absl::Status {
    RETURN_IF_ERROR(events_->AddGap(start_after_));
    return RaiseFloor(start_after_);
  });
  status.ok() ? events_->Keep() : events_->Undo();
  return status;
}

absl::Status StateFolder::RaiseFloor(uint64_t sequence) {
  ASSIGN_OR_RETURN(Statement update,
                   database_->Prepare("UPDATE floor SET sequence = max(sequence, ?)"));
  return update.Bind(static_cast<int64_t>(sequence)).Run();
}

bool StateFolder::SetMark() {
  const int made = open(mark_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (made < 0) return false;
  close(made);
  return true;
}

absl::StatusOr<StateFolder::Saved> StateFolder::Load() {
  MutexLock hold(&mutex_);
  absl::StatusOr<Saved> saved = events_->Load();
  if (saved.ok()) {
    auto history = jobs_->Load();
    if (!history.ok()) return AtPort(history.status(), "Cannot read what is known of jobs");
    history_ = *std::move(history);
  }
  const auto floor = database_->Ask("SELECT sequence FROM floor");
  if (!saved.ok()) return AtPort(saved.status(), "Cannot read the saved events");
  if (!floor.ok()) return AtPort(floor.status(), "Cannot read the saved events");
  start_after_ = static_cast<uint64_t>(*floor);
  if (events_->newest() > 0) start_after_ = std::max(start_after_, events_->newest() + kRestartGap);
  if (access(mark_path().c_str(), F_OK) != 0) {
    // The process before us could not save all that it told.
    saved->events.clear();
    saved->dropped_of.clear();
    has_gap_ = !StartAnew().ok() || !SetMark();
    saved->dropped = start_after_;
  }
  // For a process that is killed before it has saved an event. Without space it goes on all the
  // same.
  RaiseFloor(start_after_ + kRestartGap).IgnoreError();
  return saved;
}

absl::Status StateFolder::Save(const std::vector<backend::EventPtr>& events) {
  absl::Status saved;
  bool was_unmarked = false;
  bool is_unmarked = false;
  {
    MutexLock hold(&mutex_);
    was_unmarked = has_gap_ || is_unmarked_;
    saved = SaveInOne(events);
    if (!saved.ok()) {
      // If the process ends before a later try succeeds, they are lost.
      unlink(mark_path().c_str());
      is_unmarked_ = true;
    } else {
      has_gap_ = false;
      if (was_unmarked) is_unmarked_ = !SetMark();
    }
    is_unmarked = is_unmarked_;
  }
  if (!saved.ok() && !was_unmarked) {
    warn_(
        absl::StrCat("events cannot be saved for now; if the service ends before they can, none "
                     "from before will be replayed: ",
                     saved.message()));
  } else if (was_unmarked && !is_unmarked) {
    warn_("events are saved again");
  }
  return saved;
}

// Events and what they tell of jobs: both or nothing.
absl::Status StateFolder::SaveInOne(const std::vector<backend::EventPtr>& events) {
  const absl::Status status = database_->InTransaction([&]() -> absl::Status {
    RETURN_IF_ERROR(events_->Save(events, has_gap_));
    return jobs_->Apply(events);
  });
  status.ok() ? events_->Keep() : events_->Undo();
  status.ok() ? jobs_->Keep() : jobs_->Undo();
  return status;
}

void StateFolder::AddGap() {
  MutexLock hold(&mutex_);
  unlink(mark_path().c_str());
  has_gap_ = true;
}

std::string StateFolder::log_id() const {
  MutexLock hold(&mutex_);
  return log_id_;
}

std::vector<backend::JobView> StateFolder::TakeJobHistory() {
  MutexLock hold(&mutex_);
  return std::exchange(history_, {});
}

uint64_t StateFolder::start_after() const {
  MutexLock hold(&mutex_);
  return start_after_;
}

absl::StatusOr<std::vector<v1::CreateInstanceRequest>> StateFolder::LoadInstances() {
  MutexLock hold(&mutex_);
  absl::StatusOr<Statement> select = database_->Prepare("SELECT body FROM instances ORDER BY id");
  if (!select.ok()) return AtPort(select.status(), "Cannot read the stored instances");
  auto instances = ReadBodies<v1::CreateInstanceRequest>(*std::move(select));
  if (!instances.ok()) return AtPort(instances.status(), "Cannot read the stored instances");
  return instances;
}

template <typename Body>
absl::StatusOr<std::vector<Body>> StateFolder::LoadOf(absl::string_view instance,
                                                      absl::string_view table) {
  const std::string what =
      absl::StrCat("Cannot read the stored ", table, " of instance '", instance, "'");
  MutexLock hold(&mutex_);
  absl::StatusOr<Statement> select = database_->Prepare(
      absl::StrCat("SELECT body FROM ", table, " WHERE instance = ? ORDER BY id"));
  if (!select.ok()) return AtPort(select.status(), what);
  select->Bind(instance);
  auto bodies = ReadBodies<Body>(*std::move(select));
  if (!bodies.ok()) return AtPort(bodies.status(), what);
  return bodies;
}

absl::Status StateFolder::SaveOf(absl::string_view instance, absl::string_view table,
                                 absl::string_view id, const std::string& body) {
  return Execute(
      absl::StrCat("Cannot store '", id, "' among the ", table, " of instance '", instance, "'"),
      absl::StrCat("INSERT OR REPLACE INTO ", table, " VALUES (?, ?, ?)"),
      [&](Statement& statement) { statement.Bind(instance).Bind(id).BindBlob(body); });
}

absl::Status StateFolder::DeleteOf(absl::string_view instance, absl::string_view table,
                                   absl::string_view id) {
  return Execute(
      absl::StrCat("Cannot forget '", id, "' of the ", table, " of instance '", instance, "'"),
      absl::StrCat("DELETE FROM ", table, " WHERE instance = ? AND id = ?"),
      [&](Statement& statement) { statement.Bind(instance).Bind(id); });
}

absl::Status StateFolder::Execute(absl::string_view what, absl::string_view statement,
                                  absl::FunctionRef<void(Statement&)> bind) {
  MutexLock hold(&mutex_);
  absl::StatusOr<Statement> prepared = database_->Prepare(statement);
  if (!prepared.ok()) return AtPort(prepared.status(), what);
  bind(*prepared);
  return AtPort(prepared->Run(), what);
}

absl::Status StateFolder::SaveInstance(const v1::CreateInstanceRequest& instance) {
  const std::string body = instance.SerializeAsString();
  return Execute(absl::StrCat("Cannot store instance '", instance.id(), "'"),
                 "INSERT OR REPLACE INTO instances VALUES (?, ?)",
                 [&](Statement& statement) { statement.Bind(instance.id()).BindBlob(body); });
}

absl::StatusOr<std::vector<std::string>> StateFolder::LoadOtherInstanceIds() {
  MutexLock hold(&mutex_);
  const auto read = [this]() -> absl::StatusOr<std::vector<std::string>> {
    ASSIGN_OR_RETURN(Statement select,
                     database_->Prepare("SELECT instance FROM jobs UNION SELECT instance FROM "
                                        "exports EXCEPT SELECT id FROM instances"));
    std::vector<std::string> ids;
    for (;;) {
      ASSIGN_OR_RETURN(const bool row, select.Step());
      if (!row) return ids;
      ids.emplace_back(select.Bytes(0));
    }
  };
  absl::StatusOr<std::vector<std::string>> ids = read();
  if (!ids.ok()) return AtPort(ids.status(), "Cannot read whose jobs are stored");
  return ids;
}

absl::Status StateFolder::DeleteInstance(absl::string_view id) {
  MutexLock hold(&mutex_);
  const absl::Status status = database_->InTransaction([&]() -> absl::Status {
    for (const char* statement :
         {"DELETE FROM jobs WHERE instance = ?", "DELETE FROM exports WHERE instance = ?",
          "DELETE FROM instances WHERE id = ?"}) {
      ASSIGN_OR_RETURN(Statement prepared, database_->Prepare(statement));
      RETURN_IF_ERROR(prepared.Bind(id).Run());
    }
    return absl::OkStatus();
  });
  return AtPort(status, absl::StrCat("Cannot forget instance '", id, "'"));
}

absl::StatusOr<std::vector<v1::Job>> StateFolder::LoadJobs(absl::string_view instance) {
  return LoadOf<v1::Job>(instance, kJobs);
}
absl::Status StateFolder::SaveJob(const v1::Job& job) {
  return SaveOf(job.instance(), kJobs, job.id(), job.SerializeAsString());
}
absl::Status StateFolder::DeleteJob(absl::string_view instance, absl::string_view id) {
  return DeleteOf(instance, kJobs, id);
}

absl::StatusOr<std::vector<v1::BlockExportInfo>> StateFolder::LoadExports(
    absl::string_view instance) {
  return LoadOf<v1::BlockExportInfo>(instance, kExports);
}
absl::Status StateFolder::SaveExport(absl::string_view instance, const v1::BlockExportInfo& info) {
  return SaveOf(instance, kExports, info.id(), info.SerializeAsString());
}
absl::Status StateFolder::DeleteExport(absl::string_view instance, absl::string_view id) {
  return DeleteOf(instance, kExports, id);
}

}  // namespace tidemark::store
