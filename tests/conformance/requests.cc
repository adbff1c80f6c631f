#include "tests/conformance/requests.h"

#include <unistd.h>

#include "absl/strings/str_split.h"
#include "engine/base/check.h"

namespace tidemark::test {
namespace {

void SetBitmap(const std::string& text, v1::BlockDirtyBitmapOrStr* bitmap) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (parts.size() == 1) {
    bitmap->set_local(text);
  } else {
    bitmap->mutable_external()->set_node(parts[0]);
    bitmap->mutable_external()->set_name(parts[1]);
  }
}

template <class Request>
Request OfBitmap(const std::string& node, const std::string& name) {
  Request request;
  request.set_node(node);
  request.set_name(name);
  return request;
}

template <class Request>
Request BackupOf(const BackupOptions& options) {
  Request request;
  request.set_job_id(options.job);
  request.set_device(options.source);
  request.set_target(options.target);
  request.set_sync(options.sync);
  request.set_speed(options.speed);
  if (!options.bitmap.empty()) request.set_bitmap(options.bitmap);
  request.set_bitmap_mode(options.mode);
  request.set_compress(options.compress);
  request.set_on_source_error(options.on_source_error);
  request.set_on_target_error(options.on_target_error);
  if (options.auto_finalize.has_value()) request.set_auto_finalize(*options.auto_finalize);
  if (options.auto_dismiss.has_value()) request.set_auto_dismiss(*options.auto_dismiss);
  request.set_filter_node_name(options.filter_node_name);
  return request;
}

}  // namespace

v1::CreateInstanceRequest CreateInstance(const std::string& id, const std::string& path) {
  v1::CreateInstanceRequest request;
  request.set_id(id);
  request.mutable_address()->mutable_unix_socket()->set_path(path);
  return request;
}

v1::BlockdevOptions FileOptions(const std::string& path, const std::string& node) {
  v1::BlockdevOptions options;
  options.set_node_name(node);
  options.mutable_file()->set_filename(path);
  return options;
}

v1::BlockdevOptions Qcow2Options(const std::string& node, const std::string& path) {
  v1::BlockdevOptions options;
  options.set_node_name(node);
  options.set_discard(v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  *options.mutable_qcow2()->mutable_file()->mutable_definition() = FileOptions(path);
  return options;
}

v1::BlockdevOptions RawOptions(const std::string& node, const std::string& path) {
  v1::BlockdevOptions options;
  options.set_node_name(node);
  options.set_discard(v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  *options.mutable_raw()->mutable_file()->mutable_definition() = FileOptions(path);
  return options;
}

v1::BlockdevOptions NullOptions(const std::string& node, int64_t size_bytes) {
  v1::BlockdevOptions options;
  options.set_node_name(node);
  options.mutable_null_co()->set_size(size_bytes);
  options.mutable_null_co()->set_read_zeroes(true);
  return options;
}

v1::BlockdevOptions CrampedOptions(const std::string& node, const std::string& path,
                                   int64_t window_bytes) {
  // A window must lie in its file.
  CHECK(truncate(path.c_str(), window_bytes) == 0);
  v1::BlockdevOptions options;
  options.set_node_name(node);
  v1::BlockdevOptionsRaw* window =
      options.mutable_qcow2()->mutable_file()->mutable_definition()->mutable_raw();
  window->set_size(window_bytes);
  *window->mutable_file()->mutable_definition() = FileOptions(path);
  return options;
}

v1::BlockdevAddRequest Add(v1::BlockdevOptions options) {
  v1::BlockdevAddRequest request;
  *request.mutable_options() = std::move(options);
  return request;
}

v1::BlockdevDelRequest Del(const std::string& node) {
  v1::BlockdevDelRequest request;
  request.set_node_name(node);
  return request;
}

v1::BlockResizeRequest Resize(const std::string& node, int64_t size_bytes) {
  v1::BlockResizeRequest request;
  request.set_node_name(node);
  request.set_size(size_bytes);
  return request;
}

v1::BlockDirtyBitmapAddRequest BitmapAdd(const std::string& node, const std::string& name,
                                         absl::optional<uint32_t> granularity, bool persistent,
                                         bool disabled) {
  auto request = OfBitmap<v1::BlockDirtyBitmapAddRequest>(node, name);
  if (granularity.has_value()) request.set_granularity(*granularity);
  request.set_persistent(persistent);
  request.set_disabled(disabled);
  return request;
}

v1::BlockDirtyBitmapRemoveRequest BitmapRemove(const std::string& node, const std::string& name) {
  return OfBitmap<v1::BlockDirtyBitmapRemoveRequest>(node, name);
}

v1::BlockDirtyBitmapClearRequest BitmapClear(const std::string& node, const std::string& name) {
  return OfBitmap<v1::BlockDirtyBitmapClearRequest>(node, name);
}

v1::BlockDirtyBitmapEnableRequest BitmapEnable(const std::string& node, const std::string& name) {
  return OfBitmap<v1::BlockDirtyBitmapEnableRequest>(node, name);
}

v1::BlockDirtyBitmapDisableRequest BitmapDisable(const std::string& node, const std::string& name) {
  return OfBitmap<v1::BlockDirtyBitmapDisableRequest>(node, name);
}

v1::BlockDirtyBitmapMergeRequest BitmapMerge(const std::string& node, const std::string& target,
                                             const std::vector<std::string>& sources) {
  v1::BlockDirtyBitmapMergeRequest request;
  request.set_node(node);
  request.set_target(target);
  for (const std::string& source : sources) SetBitmap(source, request.add_bitmaps());
  return request;
}

v1::DebugBlockDirtyBitmapSha256Request BitmapSha256(const std::string& node,
                                                    const std::string& name) {
  return OfBitmap<v1::DebugBlockDirtyBitmapSha256Request>(node, name);
}

v1::BlockdevBackupRequest Backup(const BackupOptions& options) {
  return BackupOf<v1::BlockdevBackupRequest>(options);
}

v1::DriveBackupRequest BackupToFile(const BackupOptions& options, const std::string& format,
                                    v1::NewImageMode mode) {
  auto request = BackupOf<v1::DriveBackupRequest>(options);
  if (!format.empty()) request.set_format(format);
  request.set_mode(mode);
  return request;
}

v1::BlockJobSetSpeedRequest SetSpeed(const std::string& job, int64_t speed) {
  auto request = OfJob<v1::BlockJobSetSpeedRequest>(job);
  request.set_speed(speed);
  return request;
}

v1::BlockJobCancelRequest Cancel(const std::string& job, bool force) {
  auto request = OfJob<v1::BlockJobCancelRequest>(job);
  request.set_force(force);
  return request;
}

v1::NbdServerStartRequest NbdStart(const std::string& socket) {
  v1::NbdServerStartRequest request;
  request.mutable_addr()->mutable_unix_socket()->set_path(socket);
  return request;
}

v1::BlockExportAddRequest ExportAdd(const std::string& id, const std::string& node, bool writable,
                                    const std::vector<std::string>& bitmaps,
                                    const std::string& name) {
  v1::BlockExportAddRequest request;
  request.set_id(id);
  request.set_node_name(node);
  request.set_writable(writable);
  request.mutable_nbd();
  if (!name.empty()) request.mutable_nbd()->set_name(name);
  for (const std::string& bitmap : bitmaps) SetBitmap(bitmap, request.mutable_nbd()->add_bitmaps());
  return request;
}

v1::BlockExportDelRequest ExportDel(const std::string& id, v1::BlockExportRemoveMode mode) {
  v1::BlockExportDelRequest request;
  request.set_id(id);
  request.set_mode(mode);
  return request;
}

namespace internal {

void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapAddRequest& request) {
  *action->mutable_block_dirty_bitmap_add() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapRemoveRequest& request) {
  *action->mutable_block_dirty_bitmap_remove() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapClearRequest& request) {
  *action->mutable_block_dirty_bitmap_clear() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapEnableRequest& request) {
  *action->mutable_block_dirty_bitmap_enable() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapDisableRequest& request) {
  *action->mutable_block_dirty_bitmap_disable() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockDirtyBitmapMergeRequest& request) {
  *action->mutable_block_dirty_bitmap_merge() = request;
}
void SetAction(v1::TransactionAction* action, const v1::BlockdevBackupRequest& request) {
  *action->mutable_blockdev_backup() = request;
}
void SetAction(v1::TransactionAction* action, const v1::DriveBackupRequest& request) {
  *action->mutable_drive_backup() = request;
}

}  // namespace internal
}  // namespace tidemark::test
