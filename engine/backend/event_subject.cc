#include "engine/backend/event_subject.h"

#include <algorithm>

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

using IsWanted = absl::FunctionRef<bool(const std::string& node_name)>;

bool AnyOf(const google::protobuf::RepeatedPtrField<std::string>& names, IsWanted is_wanted) {
  return std::any_of(names.begin(), names.end(), is_wanted);
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

bool NamesNode(const v1::Event& event, IsWanted is_wanted) {
  switch (event.payload_case()) {
    case v1::Event::kJobStatusChange:
      return AnyOf(event.job_status_change().node_names(), is_wanted);
    case v1::Event::kJobProgress:
      return AnyOf(event.job_progress().node_names(), is_wanted);
    case v1::Event::kBlockExportDeleted:
      return is_wanted(event.block_export_deleted().node_name());
    case v1::Event::kBlockImageCorrupted:
      return is_wanted(event.block_image_corrupted().node_name());
    case v1::Event::kBlockIoError:
      return is_wanted(event.block_io_error().node_name());
    case v1::Event::kBlockWriteThreshold:
      return is_wanted(event.block_write_threshold().node_name());
    case v1::Event::kQuorumFailure:
      return is_wanted(event.quorum_failure().reference());
    case v1::Event::kQuorumReportBad:
      return is_wanted(event.quorum_report_bad().node_name());
    default:
      return false;
  }
}

}  // namespace tidemark::backend
