#include "service/cli/progress.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "adapters/qmp/transcoder.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr int kBarColumns = 20;
constexpr absl::Duration kRateWindow = absl::Seconds(5);

uint64_t NotNegative(int64_t bytes) { return bytes < 0 ? 0 : static_cast<uint64_t>(bytes); }

// "0:47", "2:03:15".
std::string ClockText(uint64_t seconds) {
  const uint64_t hours = seconds / 3600;
  if (hours == 0) return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  return absl::StrFormat("%d:%02d:%02d", hours, seconds / 60 % 60, seconds % 60);
}

// Seconds from start to end; negative if not known.
double RunSeconds(const v1::Job& job) {
  if (!job.has_start_time() || !job.has_end_time()) return -1;
  return static_cast<double>(job.end_time().seconds() - job.start_time().seconds()) +
         (job.end_time().nanos() - job.start_time().nanos()) / 1e9;
}

}  // namespace

std::string StatusName(v1::JobStatus status) {
  const auto* const value = v1::JobStatus_descriptor()->FindValueByNumber(status);
  return value == nullptr ? "unknown" : qmp::ValueName(*value);
}

int Permille(const v1::Job& job) {
  if (job.outcome() == v1::JOB_OUTCOME_SUCCEEDED) return 1000;
  const uint64_t total = NotNegative(job.total_bytes());
  const uint64_t done = std::min(NotNegative(job.progress_bytes()), total);
  if (total == 0) return 0;
  return std::min(999,
                  static_cast<int>(static_cast<double>(done) / static_cast<double>(total) * 1000));
}

void RateMeter::Add(const v1::Job& job) {
  told_ = NotNegative(job.rate_bytes_per_second());
  const absl::Time time = absl::FromUnixSeconds(job.progress_time().seconds()) +
                          absl::Nanoseconds(job.progress_time().nanos());
  // A job that went back or stood still in time is another one, or the same snapshot.
  if (!points_.empty() && job.progress_bytes() < points_.back().bytes) points_.clear();
  if (!points_.empty() && time <= points_.back().time) return;
  points_.push_back({time, job.progress_bytes()});
  // Two points at least, the older one as far back as the window reaches.
  while (points_.size() > 2 && time - points_[1].time >= kRateWindow) points_.pop_front();
}

uint64_t RateMeter::BytesPerSecond() const {
  if (told_ > 0 || points_.size() < 2) return told_;
  const double seconds = absl::ToDoubleSeconds(points_.back().time - points_.front().time);
  return static_cast<uint64_t>(static_cast<double>(points_.back().bytes - points_.front().bytes) /
                               seconds);
}

std::string ProgressLine(const v1::Job& job, uint64_t rate) {
  const int permille = Permille(job);
  const int filled = permille * kBarColumns / 1000;
  std::string line = absl::StrFormat(
      "%s %s [%s%s] %5.1f %%  %s of %s", Printable(job.id()), StatusName(job.status()),
      std::string(filled, '#'), std::string(kBarColumns - filled, '-'), permille / 10.0,
      BytesText(NotNegative(job.progress_bytes())), BytesText(NotNegative(job.total_bytes())));
  if (job.status() == v1::JOB_STATUS_RUNNING && rate > 0) {
    const int64_t left = job.total_bytes() - job.progress_bytes();
    absl::StrAppend(&line, "  ", BytesText(rate), "/s  ", ClockText(NotNegative(left) / rate),
                    " left");
  }
  if (job.io_status() == v1::BLOCK_DEVICE_IO_STATUS_FAILED) line += "  stopped by an I/O error";
  if (job.io_status() == v1::BLOCK_DEVICE_IO_STATUS_NOSPACE) line += "  stopped: no space left";
  return line;
}

std::string OutcomeLine(const v1::Job& job) {
  std::string line = Printable(job.id());
  switch (job.outcome()) {
    case v1::JOB_OUTCOME_SUCCEEDED: {
      absl::StrAppend(&line, " succeeded: ", BytesText(NotNegative(job.progress_bytes())));
      const double seconds = RunSeconds(job);
      if (seconds >= 0) absl::StrAppendFormat(&line, " in %.1f s", seconds);
      if (seconds > 0) {
        const double rate = static_cast<double>(NotNegative(job.progress_bytes())) / seconds;
        absl::StrAppend(&line, " (", BytesText(static_cast<uint64_t>(rate)), "/s)");
      }
      if (job.error_count() > 0) absl::StrAppend(&line, ", I/O errors met: ", job.error_count());
      return line;
    }
    case v1::JOB_OUTCOME_CANCELLED:
      return line + " was cancelled";
    default:
      break;
  }
  line += " failed";
  if (job.error_reason() != v1::ERROR_REASON_UNSPECIFIED) {
    const std::string name = v1::ErrorReason_Name(job.error_reason());
    constexpr absl::string_view kPrefix = "ERROR_REASON_";
    if (name.size() > kPrefix.size())
      absl::StrAppend(&line, " (", name.substr(kPrefix.size()), ")");
  }
  if (!job.error().empty()) absl::StrAppend(&line, ": ", Printable(job.error()));
  return line;
}

}  // namespace tidemark::cli
