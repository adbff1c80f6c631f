// How far a job is, in a line. Pure functions; any thread.
#ifndef SERVICE_CLI_PROGRESS_H_
#define SERVICE_CLI_PROGRESS_H_

#include <string>

#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::cli {

// "job0 running [#########-----------]  45.0 %  4.5 GiB of 10.0 GiB  120.0 MiB/s  0:47 left".
std::string ProgressLine(const ::tidemark::block::v1::Job& job);

// "job0 succeeded: 10.0 GiB in 85 s", "job0 failed (NO_SPACE): ...". For a job that has an outcome.
std::string OutcomeLine(const ::tidemark::block::v1::Job& job);

// Part of the work done, in thousandths: 0 to 1000. Only an end is 1000.
int Permille(const ::tidemark::block::v1::Job& job);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_PROGRESS_H_
