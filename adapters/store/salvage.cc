#include "adapters/store/salvage.h"

#include "adapters/store/job_rows.h"
#include "adapters/store/read_bodies.h"
#include "engine/backend/limits.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

namespace v1 = ::tidemark::block::v1;

template <typename Body>
std::vector<Body> SalvageBodies(Database* database, absl::string_view statement) {
  auto select = database->Prepare(statement);
  if (!select.ok()) return {};
  std::vector<Body> bodies;
  // What was read before the damage counts.
  ReadInto(*std::move(select), &bodies).IgnoreError();
  return bodies;
}

std::vector<std::pair<std::string, v1::BlockExportInfo>> SalvageExports(Database* database) {
  std::vector<std::pair<std::string, v1::BlockExportInfo>> exports;
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

Salvaged Salvage(Database* database) {
  Salvaged salvaged;
  if (database == nullptr) return salvaged;
  salvaged.instances =
      SalvageBodies<v1::CreateInstanceRequest>(database, "SELECT body FROM instances");
  salvaged.jobs = SalvageBodies<v1::Job>(database, "SELECT body FROM jobs");
  salvaged.exports = SalvageExports(database);
  auto history = JobRows(*database, backend::kEndedJobsMax).Load();
  if (history.ok()) salvaged.history = *std::move(history);
  return salvaged;
}

absl::Status PutBack(const Salvaged& salvaged, Database& database) {
  ASSIGN_OR_RETURN(Statement instance,
                   database.Prepare("INSERT OR REPLACE INTO instances VALUES (?, ?)"));
  for (const auto& body : salvaged.instances) {
    const std::string bytes = body.SerializeAsString();
    RETURN_IF_ERROR(instance.Bind(body.id()).BindBlob(bytes).Run());
  }
  ASSIGN_OR_RETURN(Statement job, database.Prepare("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)"));
  for (const auto& body : salvaged.jobs) {
    const std::string bytes = body.SerializeAsString();
    RETURN_IF_ERROR(job.Bind(body.instance()).Bind(body.id()).BindBlob(bytes).Run());
  }
  ASSIGN_OR_RETURN(Statement of_export,
                   database.Prepare("INSERT OR REPLACE INTO exports VALUES (?, ?, ?)"));
  for (const auto& [instance_id, body] : salvaged.exports) {
    const std::string bytes = body.SerializeAsString();
    RETURN_IF_ERROR(of_export.Bind(instance_id).Bind(body.id()).BindBlob(bytes).Run());
  }
  JobRows rows(database, backend::kEndedJobsMax);
  for (const backend::JobView& view : salvaged.history) RETURN_IF_ERROR(rows.Insert(view));
  return absl::OkStatus();
}

}  // namespace tidemark::store
