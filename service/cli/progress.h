// How far a job is, in a line. Pure functions; any thread.
#ifndef SERVICE_CLI_PROGRESS_H_
#define SERVICE_CLI_PROGRESS_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/time/time.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::cli {

// The rate of a job over its last seconds, from one snapshot after another: for engines that do not
// tell it. One thread.
class RateMeter {
 public:
  void Add(const ::tidemark::block::v1::Job& job);
  // Bytes a second; 0 while not known. What the newest snapshot itself tells goes first.
  uint64_t BytesPerSecond() const;

 private:
  struct Point {
    absl::Time time;
    int64_t bytes;
  };
  std::deque<Point> points_;  // Oldest first; a few seconds' worth.
  uint64_t told_ = 0;
};

// "job0 running [#########-----------]  45.0 %  4.5 GiB of 10.0 GiB  120.0 MiB/s  0:47 left".
std::string ProgressLine(const ::tidemark::block::v1::Job& job, uint64_t rate_bytes_per_second);

// "job0 succeeded: 10.0 GiB in 85 s", "job0 failed (NO_SPACE): ...". For a job that has an outcome.
std::string OutcomeLine(const ::tidemark::block::v1::Job& job);

// QMP's name of a state.
std::string StatusName(::tidemark::block::v1::JobStatus status);

// Part of the work done, in thousandths: 0 to 1000. Only an end is 1000.
int Permille(const ::tidemark::block::v1::Job& job);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_PROGRESS_H_
