#include "adapters/store/schema.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/store/checksum.h"
#include "adapters/store/event_rows.h"
#include "adapters/store/job_rows.h"
#include "engine/backend/limits.h"
#include "engine/backend/log_id.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

using backend::EventPtr;

absl::Status MakeFirstTables(Database& database) {
  RETURN_IF_ERROR(database.Run(EventRows::kSchema));
  return database.Run(
      "CREATE TABLE instances (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE jobs (instance TEXT, id TEXT, body BLOB NOT NULL,"
      "                   PRIMARY KEY (instance, id)) WITHOUT ROWID;"
      "CREATE TABLE floor (sequence INTEGER NOT NULL);"
      "INSERT INTO floor VALUES (0);");
}

absl::Status AddExports(Database& database) {
  return database.Run(
      "CREATE TABLE exports (instance TEXT, id TEXT, body BLOB NOT NULL,"
      "                      PRIMARY KEY (instance, id)) WITHOUT ROWID;");
}

// Events as version 2 kept them: each row named the one before it, whatever its instance, and where
// that did not fit there was a gap.
struct OldEvents {
  std::vector<EventPtr> all;
  size_t shown_from = 0;  // Of `all`, those behind the last gap.
  uint64_t dropped = 0;
};

absl::StatusOr<OldEvents> ReadOldEvents(Database& database) {
  OldEvents old;
  ASSIGN_OR_RETURN(
      Statement select,
      database.Prepare("SELECT sequence, previous, checksum, body FROM events ORDER BY sequence"));
  uint64_t last = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return old;
    const uint64_t sequence = static_cast<uint64_t>(select.Integer(0));
    const uint64_t previous = static_cast<uint64_t>(select.Integer(1));
    const absl::string_view body = select.Bytes(3);
    auto event = std::make_shared<backend::Event>();
    const bool whole = select.Integer(2) == Checksum({sequence, previous}, body) &&
                       event->ParseFromArray(body.data(), static_cast<int>(body.size())) &&
                       event->sequence() == sequence;
    if (!whole || previous != last) {
      old.shown_from = old.all.size();
      old.dropped = whole ? sequence - 1 : sequence;
    }
    if (whole) old.all.push_back(std::move(event));
    last = sequence;
  }
}

// Every log has an identity; what is known of jobs is kept apart from events; and these name the
// one before of their instance.
absl::Status KeepJobsApart(Database& database) {
  RETURN_IF_ERROR(database.Run("CREATE TABLE log (id TEXT NOT NULL, dropped INTEGER NOT NULL)"));
  ASSIGN_OR_RETURN(Statement log, database.Prepare("INSERT INTO log VALUES (?, 0)"));
  const std::string id = backend::MakeLogId();
  RETURN_IF_ERROR(log.Bind(id).Run());
  RETURN_IF_ERROR(database.Run(JobRows::kSchema));
  ASSIGN_OR_RETURN(const OldEvents old, ReadOldEvents(database));
  if (old.all.empty() && old.dropped == 0) return absl::OkStatus();
  JobRows jobs(database, backend::kEndedJobsMax);
  RETURN_IF_ERROR(jobs.Apply(old.all));
  jobs.Keep();
  EventRows events(database, {});
  RETURN_IF_ERROR(events.AddGap(old.dropped));
  const std::vector<EventPtr> shown(
      std::next(old.all.begin(), static_cast<ptrdiff_t>(old.shown_from)), old.all.end());
  return shown.empty() ? absl::OkStatus() : events.Save(shown, /*is_behind_gap=*/false);
}

using Step = absl::Status (*)(Database&);

// Each brings the tables from the version that is its place here to the next one.
constexpr Step kSteps[] = {MakeFirstTables, AddExports, KeepJobsApart};

absl::Status MakeCopy(Database& database, const std::string& path) {
  // For its owner alone; SQLite accepts a file that is empty.
  const int made = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (made < 0) {
    return Error(Reason::kIoError,
                 absl::StrCat("Cannot make a copy as '", path, "': ", std::strerror(errno)),
                 {{"file", path}});
  }
  close(made);
  ASSIGN_OR_RETURN(Statement copy, database.Prepare("VACUUM INTO ?"));
  return Annotate(copy.Bind(path).Run(), absl::StrCat("Cannot make a copy as '", path, "'"));
}

}  // namespace

int64_t SchemaVersion() { return static_cast<int64_t>(std::size(kSteps)); }

absl::Status BringUpSchema(Database& database, int64_t version, const std::string& copy_path) {
  if (version == SchemaVersion()) return absl::OkStatus();
  if (version > 0) RETURN_IF_ERROR(MakeCopy(database, copy_path));
  return database.InTransaction([&database, version]() -> absl::Status {
    for (int64_t step = version; step < SchemaVersion(); ++step) {
      RETURN_IF_ERROR(kSteps[step](database));
    }
    return database.Run(absl::StrCat("PRAGMA user_version = ", SchemaVersion()).c_str());
  });
}

absl::Status LookAtTables(Database& database) {
  for (const char* look :
       {EventRows::kLook, JobRows::kLook, "SELECT id, body FROM instances",
        "SELECT instance, id, body FROM jobs", "SELECT instance, id, body FROM exports"}) {
    RETURN_IF_ERROR(database.Prepare(look).status());
  }
  // Every reply has the id in it: bytes that are none would make all of them unreadable.
  ASSIGN_OR_RETURN(const int64_t rows,
                   database.Ask("SELECT (SELECT count(*) FROM log WHERE length(id) = 32 "
                                "AND id NOT GLOB '*[^0-9a-f]*') + "
                                "(SELECT count(*) FROM floor)"));
  return rows == 2
             ? absl::OkStatus()
             : absl::DataLossError("the table 'log' or 'floor' has not its one row, or no id");
}

}  // namespace tidemark::store
