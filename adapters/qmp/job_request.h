// The jobs that a request starts, by the options qmp.starts_job, qmp.job_id and qmp.job_node. Pure
// functions; any thread.
#ifndef ADAPTERS_QMP_JOB_REQUEST_H_
#define ADAPTERS_QMP_JOB_REQUEST_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/backend/command.h"
#include "google/protobuf/message.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::qmp {

// What each was asked to be: id, type, nodes, speed, auto_finalize and auto_dismiss. Of a
// transaction, the jobs of all its actions. A job without an id of its own has that of its drive.
std::vector<::tidemark::block::v1::Job> JobsStartedBy(const google::protobuf::Message& request,
                                                      absl::string_view instance);

// Makes every job that the request starts wait for job-dismiss, so that its result is not lost with
// a connection.
void KeepResults(google::protobuf::Message* request);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_JOB_REQUEST_H_
