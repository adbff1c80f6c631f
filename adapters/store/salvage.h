// What can still be read of a damaged database. One thread at a time.
#ifndef ADAPTERS_STORE_SALVAGE_H_
#define ADAPTERS_STORE_SALVAGE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "adapters/store/database.h"
#include "engine/backend/job_view.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/instance.pb.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::store {

struct Salvaged {
  std::vector<::tidemark::block::v1::CreateInstanceRequest> instances;
  std::vector<::tidemark::block::v1::Job> jobs;
  // Each with its instance.
  std::vector<std::pair<std::string, ::tidemark::block::v1::BlockExportInfo>> exports;
  std::vector<backend::JobView> history;
};

// From whatever opened of it; null: nothing.
Salvaged Salvage(Database* database);

// Writes it to another one. For a transaction.
absl::Status PutBack(const Salvaged& salvaged, Database& database);

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_SALVAGE_H_
