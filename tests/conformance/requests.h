// Requests as scenarios spell them. Plain functions; any thread.
#ifndef TESTS_CONFORMANCE_REQUESTS_H_
#define TESTS_CONFORMANCE_REQUESTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "tests/support/rpc.h"

namespace tidemark::test {

// Shorter names for what is said often.
constexpr v1::MirrorSyncMode kFull = v1::MIRROR_SYNC_MODE_FULL;
constexpr v1::MirrorSyncMode kTop = v1::MIRROR_SYNC_MODE_TOP;
constexpr v1::MirrorSyncMode kNone = v1::MIRROR_SYNC_MODE_NONE;
constexpr v1::MirrorSyncMode kIncremental = v1::MIRROR_SYNC_MODE_INCREMENTAL;
constexpr v1::MirrorSyncMode kBitmap = v1::MIRROR_SYNC_MODE_BITMAP;
constexpr v1::BitmapSyncMode kOnSuccess = v1::BITMAP_SYNC_MODE_ON_SUCCESS;
constexpr v1::BitmapSyncMode kNever = v1::BITMAP_SYNC_MODE_NEVER;
constexpr v1::BitmapSyncMode kAlways = v1::BITMAP_SYNC_MODE_ALWAYS;
constexpr v1::BlockdevOnError kReport = v1::BLOCKDEV_ON_ERROR_REPORT;
constexpr v1::BlockdevOnError kIgnore = v1::BLOCKDEV_ON_ERROR_IGNORE;
constexpr v1::BlockdevOnError kStop = v1::BLOCKDEV_ON_ERROR_STOP;
constexpr v1::BlockdevOnError kEnospc = v1::BLOCKDEV_ON_ERROR_ENOSPC;
constexpr v1::BlockdevOnError kAuto = v1::BLOCKDEV_ON_ERROR_AUTO;

// Slow enough that a copy moves a chunk or two and then stands until the speed is raised.
constexpr int64_t kHold = 1;

// Instances: virtual machines by the unix socket of their monitor.
v1::CreateInstanceRequest CreateInstance(const std::string& id, const std::string& path);

// Nodes. `node` may be empty for inline ones.
v1::BlockdevOptions FileOptions(const std::string& path, const std::string& node = "");
// A qcow2 image over an inline file, discards honoured.
v1::BlockdevOptions Qcow2Options(const std::string& node, const std::string& path);
v1::BlockdevOptions RawOptions(const std::string& node, const std::string& path);
v1::BlockdevOptions NullOptions(const std::string& node, int64_t size_bytes);
// A qcow2 image in the first `window_bytes` of a file: it fails writes for want of space when it
// would grow beyond, like a full disk.
v1::BlockdevOptions CrampedOptions(const std::string& node, const std::string& path,
                                   int64_t window_bytes);
v1::BlockdevAddRequest Add(v1::BlockdevOptions options);
v1::BlockdevDelRequest Del(const std::string& node);
v1::BlockResizeRequest Resize(const std::string& node, int64_t size_bytes);

// Bitmaps.
v1::BlockDirtyBitmapAddRequest BitmapAdd(const std::string& node, const std::string& name,
                                         absl::optional<uint32_t> granularity = absl::nullopt,
                                         bool persistent = false, bool disabled = false);
v1::BlockDirtyBitmapRemoveRequest BitmapRemove(const std::string& node, const std::string& name);
v1::BlockDirtyBitmapClearRequest BitmapClear(const std::string& node, const std::string& name);
v1::BlockDirtyBitmapEnableRequest BitmapEnable(const std::string& node, const std::string& name);
v1::BlockDirtyBitmapDisableRequest BitmapDisable(const std::string& node, const std::string& name);
// Sources of other nodes are written "node:name".
v1::BlockDirtyBitmapMergeRequest BitmapMerge(const std::string& node, const std::string& target,
                                             const std::vector<std::string>& sources);
v1::DebugBlockDirtyBitmapSha256Request BitmapSha256(const std::string& node,
                                                    const std::string& name);

// Jobs.
struct BackupOptions {
  std::string job = "job0";
  std::string source = "disk0";
  std::string target = "target0";
  v1::MirrorSyncMode sync = kFull;
  std::string bitmap;
  v1::BitmapSyncMode mode = v1::BITMAP_SYNC_MODE_UNSPECIFIED;
  int64_t speed = 0;
  v1::BlockdevOnError on_source_error = v1::BLOCKDEV_ON_ERROR_UNSPECIFIED;
  v1::BlockdevOnError on_target_error = v1::BLOCKDEV_ON_ERROR_UNSPECIFIED;
  absl::optional<bool> auto_finalize;
  absl::optional<bool> auto_dismiss;
  bool compress = false;
  std::string filter_node_name;
};
v1::BlockdevBackupRequest Backup(const BackupOptions& options);
// The same to a file: `target` is its path.
v1::DriveBackupRequest BackupToFile(const BackupOptions& options, const std::string& format,
                                    v1::NewImageMode mode = v1::NEW_IMAGE_MODE_UNSPECIFIED);

// The verbs of jobs, by the member that names the job.
template <class Request>
Request OfJob(const std::string& job) {
  Request request;
  if constexpr (requires { request.set_id(job); }) {
    request.set_id(job);
  } else {
    request.set_device(job);
  }
  return request;
}
v1::BlockJobSetSpeedRequest SetSpeed(const std::string& job, int64_t speed);
v1::BlockJobCancelRequest Cancel(const std::string& job, bool force);

// Exports.
v1::NbdServerStartRequest NbdStart(const std::string& socket);
v1::BlockExportAddRequest ExportAdd(const std::string& id, const std::string& node, bool writable,
                                    const std::vector<std::string>& bitmaps = {},
                                    const std::string& name = "");
v1::BlockExportDelRequest ExportDel(
    const std::string& id,
    v1::BlockExportRemoveMode mode = v1::BLOCK_EXPORT_REMOVE_MODE_UNSPECIFIED);

// Transactions: `actions` are the requests that would do each alone.
namespace internal {
inline void SetAction(v1::TransactionAction* action, const v1::Abort& request) {
  *action->mutable_abort() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapAddRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapRemoveRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapClearRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapEnableRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapDisableRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapMergeRequest& request);
void SetAction(v1::TransactionAction* action, const v1::BlockdevBackupRequest& request);
void SetAction(v1::TransactionAction* action, const v1::DriveBackupRequest& request);
}  // namespace internal

template <class... Actions>
v1::TransactionRequest Transact(const Actions&... actions) {
  v1::TransactionRequest request;
  (internal::SetAction(request.add_actions(), actions), ...);
  return request;
}
// The same with jobs that share their fate.
template <class... Actions>
v1::TransactionRequest TransactGrouped(const Actions&... actions) {
  v1::TransactionRequest request = Transact(actions...);
  request.mutable_properties()->set_completion_mode(v1::ACTION_COMPLETION_MODE_GROUPED);
  return request;
}

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_REQUESTS_H_
