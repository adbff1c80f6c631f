#include "engine/native/jobs/job_convert.h"

#include "engine/backend/error_reason.h"
#include "engine/base/check.h"
#include "engine/base/utf8.h"

namespace tidemark::native {

block::v1::JobStatus ToProto(job::JobStatus status) {
  switch (status) {
    case job::JobStatus::kUndefined:
      return block::v1::JOB_STATUS_UNDEFINED;
    case job::JobStatus::kCreated:
      return block::v1::JOB_STATUS_CREATED;
    case job::JobStatus::kRunning:
      return block::v1::JOB_STATUS_RUNNING;
    case job::JobStatus::kPaused:
      return block::v1::JOB_STATUS_PAUSED;
    case job::JobStatus::kReady:
      return block::v1::JOB_STATUS_READY;
    case job::JobStatus::kStandby:
      return block::v1::JOB_STATUS_STANDBY;
    case job::JobStatus::kWaiting:
      return block::v1::JOB_STATUS_WAITING;
    case job::JobStatus::kPending:
      return block::v1::JOB_STATUS_PENDING;
    case job::JobStatus::kAborting:
      return block::v1::JOB_STATUS_ABORTING;
    case job::JobStatus::kConcluded:
      return block::v1::JOB_STATUS_CONCLUDED;
    case job::JobStatus::kNull:
      return block::v1::JOB_STATUS_NULL;
  }
  return block::v1::JOB_STATUS_UNSPECIFIED;
}

block::v1::JobType ToProto(job::JobType type) {
  switch (type) {
    case job::JobType::kBackup:
      return block::v1::JOB_TYPE_BACKUP;
    case job::JobType::kMirror:
      return block::v1::JOB_TYPE_MIRROR;
    case job::JobType::kStream:
      return block::v1::JOB_TYPE_STREAM;
    case job::JobType::kCommit:
      return block::v1::JOB_TYPE_COMMIT;
    case job::JobType::kCreate:
      return block::v1::JOB_TYPE_CREATE;
  }
  return block::v1::JOB_TYPE_UNSPECIFIED;
}

block::v1::BlockDeviceIoStatus ToProto(job::IoStatus status) {
  switch (status) {
    case job::IoStatus::kOk:
      return block::v1::BLOCK_DEVICE_IO_STATUS_OK;
    case job::IoStatus::kFailed:
      return block::v1::BLOCK_DEVICE_IO_STATUS_FAILED;
    case job::IoStatus::kNoSpace:
      return block::v1::BLOCK_DEVICE_IO_STATUS_NOSPACE;
  }
  return block::v1::BLOCK_DEVICE_IO_STATUS_UNSPECIFIED;
}

block::v1::BlockDeviceIoStatus IoStatusOf(const job::JobSnapshot& snapshot) {
  return job::IsBlockJob(snapshot.type) ? ToProto(snapshot.io_status)
                                        : block::v1::BLOCK_DEVICE_IO_STATUS_UNSPECIFIED;
}

// It may name files whose names are any bytes.
std::string ErrorText(const absl::Status& error) { return ToUtf8(error.message()); }

block::v1::ErrorReason ErrorReasonOf(const absl::Status& error) {
  if (error.ok()) return block::v1::ERROR_REASON_UNSPECIFIED;
  if (absl::IsCancelled(error)) return block::v1::ERROR_REASON_JOB_CANCELLED;
  return backend::ErrorReasonOf(error);
}

job::ErrorPolicy FromProto(block::v1::BlockdevOnError policy) {
  switch (policy) {
    case block::v1::BLOCKDEV_ON_ERROR_IGNORE:
      return job::ErrorPolicy::kIgnore;
    case block::v1::BLOCKDEV_ON_ERROR_STOP:
      return job::ErrorPolicy::kStop;
    case block::v1::BLOCKDEV_ON_ERROR_ENOSPC:
      return job::ErrorPolicy::kEnospc;
    case block::v1::BLOCKDEV_ON_ERROR_AUTO:
      return job::ErrorPolicy::kAuto;
    default:
      return job::ErrorPolicy::kReport;
  }
}

job::SyncMode FromProto(block::v1::MirrorSyncMode sync) {
  switch (sync) {
    case block::v1::MIRROR_SYNC_MODE_TOP:
      return job::SyncMode::kTop;
    case block::v1::MIRROR_SYNC_MODE_NONE:
      return job::SyncMode::kNone;
    case block::v1::MIRROR_SYNC_MODE_INCREMENTAL:
      return job::SyncMode::kIncremental;
    case block::v1::MIRROR_SYNC_MODE_BITMAP:
      return job::SyncMode::kBitmap;
    default:
      return job::SyncMode::kFull;
  }
}

}  // namespace tidemark::native
