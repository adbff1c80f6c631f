// The tables of the state folder, and how those of an older Tidemark are brought up. One thread at
// a time.
#ifndef ADAPTERS_STORE_SCHEMA_H_
#define ADAPTERS_STORE_SCHEMA_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/store/database.h"

namespace tidemark::store {

// Of the tables that this Tidemark uses: the number of steps there are.
int64_t SchemaVersion();

// Brings the tables from `version` (0: there are none) to SchemaVersion(), in one transaction.
// Where there is something to lose, a copy of the file is made first, as `copy_path`; without one
// nothing is changed.
absl::Status BringUpSchema(Database& database, int64_t version, const std::string& copy_path);

// DATA_LOSS names a table that is missing or not as it is used.
absl::Status LookAtTables(Database& database);

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_SCHEMA_H_
