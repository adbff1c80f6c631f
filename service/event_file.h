// The newest events in a folder, so that they outlive the process: two files of bounded size, the
// one before and the one being written. JOB_PROGRESS is left out.
//
// Written as events happen and left to the kernel: a killed process loses nothing, a crashed
// machine perhaps the last seconds. What a crash left torn is cut off when it is read again. If the
// disk is full all that is saved is given up, so that a restart never shows a hole as if it were
// none.
#ifndef SERVICE_EVENT_FILE_H_
#define SERVICE_EVENT_FILE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backend/event_log.h"

namespace tidemark {

// A log that goes on after a restart leaves out this many sequences: more than the JOB_PROGRESS
// events that were told since the last event that was saved.
constexpr uint64_t kRestartGap = uint64_t{1} << 24;

// As EventTail: Load first, then Save, one call at a time.
class EventFile final : public backend::EventTail {
 public:
  static constexpr size_t kFileBytesMax = size_t{16} << 20;

  // Opens the folder, which it makes if it is missing, for this process alone. FAILED_PRECONDITION
  // if another process has it.
  static absl::StatusOr<std::unique_ptr<EventFile>> Open(const std::string& folder,
                                                         size_t file_bytes_max = kFileBytesMax);
  ~EventFile() override;

  absl::StatusOr<std::vector<backend::EventPtr>> Load() override;
  void Save(const std::vector<backend::EventPtr>& events) override;
  void GiveUp() override;

 private:
  EventFile(std::string folder, int lock, size_t file_bytes_max)
      : folder_(std::move(folder)), lock_(lock), file_bytes_max_(file_bytes_max) {}

  std::string current_path() const { return folder_ + "/events"; }
  std::string previous_path() const { return folder_ + "/events.previous"; }

  const std::string folder_;
  const int lock_;
  const size_t file_bytes_max_;
  int file_ = -1;
  size_t file_bytes_ = 0;
};

}  // namespace tidemark

#endif  // SERVICE_EVENT_FILE_H_
