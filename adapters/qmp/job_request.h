// The jobs that a request starts, by the options qmp.starts_job, qmp.job_id and qmp.job_node. Pure
// functions; any thread.
#ifndef ADAPTERS_QMP_JOB_REQUEST_H_
#define ADAPTERS_QMP_JOB_REQUEST_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/qmp/graph_view.h"
#include "engine/backend/command.h"
#include "google/protobuf/message.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::qmp {

// What each was asked to be: id, type, nodes, speed, auto_finalize and auto_dismiss. Of a
// transaction, the jobs of all its actions. A job without an id of its own has the name of its
// source, until NameAfterDrives.
std::vector<::tidemark::block::v1::Job> JobsStartedBy(const google::protobuf::Message& request,
                                                      absl::string_view instance);

// Whether a job has no id of its own: QEMU names it after the drive that shows its source.
bool LacksJobId(const google::protobuf::Message& request);

// Gives such jobs the names that QEMU will: `jobs` are those that JobsStartedBy made of `request`,
// `graph` what it is sent to. One whose source no drive shows keeps its name; QEMU refuses it.
void NameAfterDrives(const google::protobuf::Message& request, const GraphView& graph,
                     std::vector<::tidemark::block::v1::Job>* jobs);

// Makes every job that the request starts wait for job-dismiss, so that its result is not lost with
// a connection.
void KeepResults(google::protobuf::Message* request);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_JOB_REQUEST_H_
