#include "engine/backend/event_subject.h"

#include <algorithm>

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

bool Contains(const google::protobuf::RepeatedPtrField<std::string>& names,
              absl::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

v1::EventKind KindOf(const v1::Event& event) {
  const int kind = static_cast<int>(event.payload_case()) - kPayloadOffset;
  return v1::EventKind_IsValid(kind) ? static_cast<v1::EventKind>(kind)
                                     : v1::EVENT_KIND_UNSPECIFIED;
}

absl::string_view JobIdOf(const v1::Event& event) {
  switch (event.payload_case()) {
    case v1::Event::kJobStatusChange:
      return event.job_status_change().id();
    case v1::Event::kBlockJobCompleted:
      return event.block_job_completed().device();
    case v1::Event::kBlockJobCancelled:
      return event.block_job_cancelled().device();
    case v1::Event::kBlockJobError:
      return event.block_job_error().device();
    case v1::Event::kBlockJobReady:
      return event.block_job_ready().device();
    case v1::Event::kBlockJobPending:
      return event.block_job_pending().id();
    case v1::Event::kJobProgress:
      return event.job_progress().id();
    default:
      return "";
  }
}

bool NamesNode(const v1::Event& event, absl::string_view node_name) {
  switch (event.payload_case()) {
    case v1::Event::kJobStatusChange:
      return Contains(event.job_status_change().node_names(), node_name);
    case v1::Event::kJobProgress:
      return Contains(event.job_progress().node_names(), node_name);
    case v1::Event::kBlockExportDeleted:
      return event.block_export_deleted().node_name() == node_name;
    case v1::Event::kBlockImageCorrupted:
      return event.block_image_corrupted().node_name() == node_name;
    case v1::Event::kBlockIoError:
      return event.block_io_error().node_name() == node_name;
    case v1::Event::kBlockWriteThreshold:
      return event.block_write_threshold().node_name() == node_name;
    case v1::Event::kQuorumFailure:
      return event.quorum_failure().reference() == node_name;
    case v1::Event::kQuorumReportBad:
      return event.quorum_report_bad().node_name() == node_name;
    default:
      return false;
  }
}

}  // namespace tidemark::backend
