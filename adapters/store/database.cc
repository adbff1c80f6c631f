#include "adapters/store/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/store/limits.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {

void Statement::Finalizer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

Statement& Statement::Bind(int64_t value) {
  sqlite3_bind_int64(statement_.get(), next_parameter_++, value);
  return *this;
}

Statement& Statement::Bind(absl::string_view text) {
  // A null pointer would bind NULL.
  sqlite3_bind_text64(statement_.get(), next_parameter_++, text.empty() ? "" : text.data(),
                      text.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::BindBlob(absl::string_view bytes) {
  sqlite3_bind_blob64(statement_.get(), next_parameter_++, bytes.empty() ? "" : bytes.data(),
                      bytes.size(), SQLITE_STATIC);
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->ErrorOf(code);
}

absl::Status Statement::Run() {
  absl::StatusOr<bool> row = true;
  while (row.ok() && *row) row = Step();
  sqlite3_reset(statement_.get());
  next_parameter_ = 1;
  return row.status();
}

int64_t Statement::Integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

absl::string_view Statement::Bytes(int column) const {
  const void* const data = sqlite3_column_blob(statement_.get(), column);
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return absl::string_view(static_cast<const char*>(data), static_cast<size_t>(size));
}

void Database::Closer::operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  // SQLite would make it readable for all; its journals take the mode of the file.
  const int made = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (made < 0) {
    return Error(Reason::kIoError, absl::StrCat("Cannot open '", path, "': ", std::strerror(errno)),
                 {{"file", path}});
  }
  close(made);
  sqlite3* handle = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  auto database = std::unique_ptr<Database>(new Database(path, handle));
  if (code != SQLITE_OK) return database->ErrorOf(code);
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyMillisecondsMax);
  // A write-ahead log: what is committed survives the end of the process without waiting for the
  // disk.
  RETURN_IF_ERROR(
      database->Run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                    "PRAGMA journal_size_limit = 8388608; PRAGMA trusted_schema = OFF;"
                    "PRAGMA cell_size_check = ON;"));
  return database;
}

absl::Status Database::Run(const char* statements) {
  const int code = sqlite3_exec(handle_.get(), statements, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(code);
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view statement) {
  sqlite3_stmt* prepared = nullptr;
  const int code = sqlite3_prepare_v2(handle_.get(), statement.data(),
                                      static_cast<int>(statement.size()), &prepared, nullptr);
  if (code != SQLITE_OK) return ErrorOf(code);
  return Statement(this, prepared);
}

absl::StatusOr<int64_t> Database::Ask(absl::string_view statement) {
  ASSIGN_OR_RETURN(Statement asked, Prepare(statement));
  ASSIGN_OR_RETURN(const bool row, asked.Step());
  return row ? asked.Integer(0) : 0;
}

absl::Status Database::InTransaction(absl::FunctionRef<absl::Status()> body) {
  RETURN_IF_ERROR(Run("BEGIN IMMEDIATE"));
  absl::Status status = body();
  if (status.ok()) status = Run("COMMIT");
  // After some errors SQLite has rolled back by itself; then there is nothing to do.
  if (!status.ok() && sqlite3_get_autocommit(handle_.get()) == 0) Run("ROLLBACK").IgnoreError();
  return status;
}

absl::Status Database::Check() {
  ASSIGN_OR_RETURN(Statement check, Prepare("PRAGMA quick_check(1)"));
  ASSIGN_OR_RETURN(const bool row, check.Step());
  if (row && check.Bytes(0) == "ok") return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", path_, "' is damaged: ", check.Bytes(0)));
}

absl::Status Database::ErrorOf(int code) const {
  const std::string message =
      absl::StrCat("'", path_, "': ", handle_ != nullptr ? sqlite3_errmsg(handle_.get()) : "");
  switch (code & 0xff) {
    case SQLITE_FULL:
      return Error(Reason::kNoSpace, message, {{"file", path_}});
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    // A table that is not as it was made: nobody but damage does that.
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
      return absl::DataLossError(message);
    default:
      return Error(Reason::kIoError, message, {{"file", path_}});
  }
}

}  // namespace tidemark::store
