// The exports of one virtual machine, as far as known. QEMU tells when one goes, but neither again
// after a break nor of which node it was: both are told from here.
//
// OnDeleted, Reconcile and EndAll are called in the order of the wire, one at a time; all others
// from any thread. None blocks. `log`, `store` and `workers` must outlive the keeper and what it
// has posted.
#ifndef ADAPTERS_QMP_EXPORT_KEEPER_H_
#define ADAPTERS_QMP_EXPORT_KEEPER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/event_log.h"
#include "engine/backend/state_store.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "tidemark/block/v1/export.pb.h"

namespace tidemark::qmp {

class ExportKeeper : public std::enable_shared_from_this<ExportKeeper> {
 public:
  // Null `store`: nothing outlives the process.
  ExportKeeper(std::string instance, backend::EventLog& log, backend::StateStore* store,
               Executor& workers);

  // Exports that an earlier process stored. Before anything else.
  void Restore(const std::vector<::tidemark::block::v1::BlockExportInfo>& stored);

  // QEMU has carried out a request, which may have made an export.
  void OnCarriedOut(const google::protobuf::Message& request);

  // BLOCK_EXPORT_DELETED: appends it to the log, with the node.
  void OnDeleted(backend::Event event);

  // The connection is back: tells of those that have gone meanwhile. `same_qemu`: it may be the
  // process that it was.
  void Reconcile(const ::tidemark::block::v1::QueryBlockExportsResponse& exports, bool same_qemu);

  // QEMU has ended, and with it all its exports.
  void EndAll();
  // The instance was given up; QEMU may go on exporting.
  void Forget();

  bool AnyLives() const;

 private:
  using Info = ::tidemark::block::v1::BlockExportInfo;

  void Know(Info info);
  void Lose(const std::string& id);
  std::vector<std::string> Known() const;
  // Brings what is stored of the export up to what is known.
  void Store(const std::string& id);

  // Constant after construction.
  const std::string instance_;
  backend::EventLog& log_;
  backend::StateStore* const store_;
  Executor& workers_;

  // Held while the store is written: what is known last is stored last. Before mutex_.
  Mutex store_mutex_;
  mutable Mutex mutex_;
  std::map<std::string, Info> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_EXPORT_KEEPER_H_
