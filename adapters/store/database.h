// SQLite with statuses: as much of it as this package needs. One thread at a time.
//
// Errors: RESOURCE_EXHAUSTED (kNoSpace) when the disk is full, DATA_LOSS when the file contradicts
// itself, else FAILED_PRECONDITION (kIoError). After an error in a transaction nothing of it has
// happened.
#ifndef ADAPTERS_STORE_DATABASE_H_
#define ADAPTERS_STORE_DATABASE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tidemark::store {

class Database;

// One statement: bind every parameter in order, then step. Ends before its database.
class Statement {
 public:
  Statement& Bind(int64_t value);
  // Text and bytes must stay until the last step.
  Statement& Bind(absl::string_view text);
  Statement& BindBlob(absl::string_view bytes);

  // True: there is a row to look at.
  absl::StatusOr<bool> Step();
  // Steps to the end, then makes it ready for other parameters.
  absl::Status Run();

  int64_t Integer(int column) const;
  // Valid until the next step.
  absl::string_view Bytes(int column) const;

 private:
  friend class Database;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  Statement(const Database* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}

  const Database* database_;
  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  int next_parameter_ = 1;
};

class Database {
 public:
  // Opens the file, which is made for its owner alone if it is missing. What a killed process left
  // half done is undone.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path);

  // Statements without parameters, of which nobody wants rows.
  absl::Status Run(const char* statements);
  absl::StatusOr<Statement> Prepare(absl::string_view statement);
  // The first value of the first row; 0 without one.
  absl::StatusOr<int64_t> Ask(absl::string_view statement);

  // Runs `body` and keeps all it did, or nothing if it or the end fails.
  absl::Status InTransaction(absl::FunctionRef<absl::Status()> body);

  // DATA_LOSS if the file contradicts itself.
  absl::Status Check();

 private:
  friend class Statement;
  struct Closer {
    void operator()(sqlite3* handle) const;
  };
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}

  absl::Status ErrorOf(int code) const;

  const std::string path_;
  const std::unique_ptr<sqlite3, Closer> handle_;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_DATABASE_H_
