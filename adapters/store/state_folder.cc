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
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr int kSchemaVersion = 2;
constexpr char kSchema[] =
    "CREATE TABLE instances (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE jobs (instance TEXT, id TEXT, body BLOB NOT NULL,"
    "                   PRIMARY KEY (instance, id)) WITHOUT ROWID;"
    "CREATE TABLE floor (sequence INTEGER NOT NULL);"
    "INSERT INTO floor VALUES (0);";
constexpr char kSchemaSince2[] =
    "CREATE TABLE exports (instance TEXT, id TEXT, body BLOB NOT NULL,"
    "                      PRIMARY KEY (instance, id)) WITHOUT ROWID;"
    "PRAGMA user_version = 2;";

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

// The messages in the one column that `select` asks for; those that cannot be read are left out.
template <typename Body>
absl::Status ReadInto(Statement select, std::vector<Body>* bodies) {
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return absl::OkStatus();
    const absl::string_view bytes = select.Bytes(0);
    Body body;
    if (body.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      bodies->push_back(std::move(body));
    }
  }
}

template <typename Body>
absl::StatusOr<std::vector<Body>> ReadBodies(Statement select) {
  std::vector<Body> bodies;
  RETURN_IF_ERROR(ReadInto(std::move(select), &bodies));
  return bodies;
}

template <typename Body>
std::vector<Body> Salvage(Database* database, absl::string_view statement) {
  if (database == nullptr) return {};
  auto select = database->Prepare(statement);
  if (!select.ok()) return {};
  std::vector<Body> bodies;
  // What was read before the damage counts.
  ReadInto(*std::move(select), &bodies).IgnoreError();
  return bodies;
}

std::vector<std::pair<std::string, v1::BlockExportInfo>> SalvageExports(Database* database) {
  std::vector<std::pair<std::string, v1::BlockExportInfo>> exports;
  if (database == nullptr) return exports;
  auto select = database->Prepare("SELECT instance, body FROM exports");
  if (!select.ok()) return exports;
  for (;;) {
    const auto row = select->Step();
    if (!row.ok() || !*row) return exports;
    v1::BlockExportInfo info;
    const absl::string_view bytes = select->Bytes(1);
    if (!info.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) continue;
    exports.emplace_back(std::string(select->Bytes(0)), std::move(info));
  }
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
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", path(), "' was written by a newer Tidemark (version ", version,
                     " of its tables, this one knows ", kSchemaVersion,
                     "); use that one, or another --state_dir"));
  }
  const bool is_lost = version == 0 && access(mark_path().c_str(), F_OK) == 0;
  if (version > 0) RETURN_IF_ERROR(database_->Check());
  RETURN_IF_ERROR(BringUpSchema(version));
  events_ = std::make_unique<EventRows>(*database_, bounds_);
  if (!is_lost) return absl::OkStatus();
  was_lost_ = true;
  return StartAnew();
}

absl::Status StateFolder::BringUpSchema(int64_t from_version) {
  if (from_version == kSchemaVersion) return absl::OkStatus();
  RETURN_IF_ERROR(database_->InTransaction([this, from_version]() -> absl::Status {
    if (from_version < 1) {
      RETURN_IF_ERROR(database_->Run(EventRows::kSchema));
      RETURN_IF_ERROR(database_->Run(kSchema));
    }
    return database_->Run(kSchemaSince2);
  }));
  // The events of an older one are as whole as they were.
  if (from_version == 0 && !SetMark()) return SystemError("Cannot write", mark_path());
  return absl::OkStatus();
}

absl::StatusOr<std::string> StateFolder::ReplaceDamaged(const absl::Status& damage) {
  const auto instances =
      Salvage<v1::CreateInstanceRequest>(database_.get(), "SELECT body FROM instances");
  const auto jobs = Salvage<v1::Job>(database_.get(), "SELECT body FROM jobs");
  const auto exports = SalvageExports(database_.get());
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
  const auto put_back = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Statement instance,
                     database_->Prepare("INSERT OR REPLACE INTO instances VALUES (?, ?)"));
    for (const auto& body : instances) {
      const std::string bytes = body.SerializeAsString();
      RETURN_IF_ERROR(instance.Bind(body.id()).BindBlob(bytes).Run());
    }
    ASSIGN_OR_RETURN(Statement job,
                     database_->Prepare("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)"));
    for (const auto& body : jobs) {
      const std::string bytes = body.SerializeAsString();
      RETURN_IF_ERROR(job.Bind(body.instance()).Bind(body.id()).BindBlob(bytes).Run());
    }
    ASSIGN_OR_RETURN(Statement of_export,
                     database_->Prepare("INSERT OR REPLACE INTO exports VALUES (?, ?, ?)"));
    for (const auto& [instance_id, body] : exports) {
      const std::string bytes = body.SerializeAsString();
      RETURN_IF_ERROR(of_export.Bind(instance_id).Bind(body.id()).BindBlob(bytes).Run());
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(database_->InTransaction(put_back));
  return absl::StrCat("the database of the state folder was damaged (", damage.message(),
                      "); it was moved to '", aside, "', and a new one begun with ",
                      instances.size(), " instances and ", jobs.size(),
                      " unfinished jobs that could be read; the history of events begins anew");
}

absl::Status StateFolder::StartAnew() {
  start_after_ = std::max(
      start_after_, static_cast<uint64_t>(std::max<int64_t>(absl::ToUnixMicros(clock_.Now()), 0)));
  return database_->InTransaction([this]() -> absl::Status {
    RETURN_IF_ERROR(events_->AddGap(start_after_));
    return RaiseFloor(start_after_);
  });
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
  const auto floor = database_->Ask("SELECT sequence FROM floor");
  if (!saved.ok()) return AtPort(saved.status(), "Cannot read the saved events");
  if (!floor.ok()) return AtPort(floor.status(), "Cannot read the saved events");
  start_after_ = static_cast<uint64_t>(*floor);
  if (events_->newest() > 0) start_after_ = std::max(start_after_, events_->newest() + kRestartGap);
  if (access(mark_path().c_str(), F_OK) != 0) {
    // The process before us could not save all that it told.
    std::move(saved->events.begin(), saved->events.end(), std::back_inserter(saved->before_gap));
    saved->events.clear();
    has_gap_ = !StartAnew().ok() || !SetMark();
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
    saved = events_->Save(events, has_gap_);
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

void StateFolder::AddGap() {
  MutexLock hold(&mutex_);
  unlink(mark_path().c_str());
  has_gap_ = true;
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
  const std::string what = absl::StrCat("Cannot forget instance '", id, "'");
  const auto bind = [id](Statement& statement) { statement.Bind(id); };
  for (const absl::string_view table : {kJobs, kExports}) {
    RETURN_IF_ERROR(
        Execute(what, absl::StrCat("DELETE FROM ", table, " WHERE instance = ?"), bind));
  }
  return Execute(what, "DELETE FROM instances WHERE id = ?", bind);
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
