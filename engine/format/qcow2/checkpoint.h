// Brings what is in memory into the file, in an order that survives a crash at any point. Any
// thread.
#ifndef ENGINE_FORMAT_QCOW2_CHECKPOINT_H_
#define ENGINE_FORMAT_QCOW2_CHECKPOINT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "engine/format/qcow2/counters.h"
#include "engine/format/qcow2/free_queue.h"
#include "engine/format/qcow2/refcounts.h"
#include "engine/format/qcow2/request_epochs.h"
#include "engine/format/qcow2/tables.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

class Checkpointer {
 public:
  // All must outlive it. `data_file`: where the disk's clusters are; may be `file`.
  // `discard_freed`: freed clusters are given back to the file system.
  Checkpointer(storage::Storage* file, storage::Storage* data_file, Refcounts* refcounts,
               Tables* tables, FreeQueue* frees, RequestEpochs* epochs, Counters* counters,
               uint64_t cluster_bytes, bool discard_freed)
      : file_(*file),
        data_file_(*data_file),
        refcounts_(*refcounts),
        tables_(*tables),
        frees_(*frees),
        epochs_(*epochs),
        counters_(*counters),
        cluster_bytes_(cluster_bytes),
        discard_freed_(discard_freed) {}

  // Everything done before this call is durable when it returns OK. Threads that call it at the
  // same time share the work. If it fails nothing is lost: the next one tries again.
  absl::Status Run();

  // Runs if much has gathered in memory. Errors come back with the next Run.
  void RunIfWanted() {
    if (tables_.WantsCheckpoint() || frees_.IsLong()) Run().IgnoreError();
  }

 private:
  absl::Status RunAlone();
  absl::Status Write(const Tables::Captured& captured);
  absl::Status FlushFiles();
  absl::Status ReleaseRipe();

  // Constant after construction.
  storage::Storage& file_;
  storage::Storage& data_file_;
  Refcounts& refcounts_;
  Tables& tables_;
  FreeQueue& frees_;
  RequestEpochs& epochs_;
  Counters& counters_;
  const uint64_t cluster_bytes_;
  const bool discard_freed_;

  Mutex mutex_;
  CondVar finished_changed_;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t started_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_CHECKPOINT_H_
