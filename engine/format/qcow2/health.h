// Whether an open image may still be written. Broken metadata that is met at run time makes all
// further writes refused until the image is opened again, so that damage does not spread. The file
// is not marked. Any thread.
#ifndef ENGINE_FORMAT_QCOW2_HEALTH_H_
#define ENGINE_FORMAT_QCOW2_HEALTH_H_

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"

namespace tidemark::qcow2 {

class Health {
 public:
  // Notes that the image is corrupt, and returns the error that says so.
  absl::Status Corrupt(absl::string_view what) {
    corrupt_.store(true, std::memory_order_relaxed);
    return Error(Reason::kImageCorrupt, absl::StrCat("qcow2 image is corrupt: ", what));
  }

  absl::Status CheckWritable() const {
    if (!corrupt_.load(std::memory_order_relaxed)) [[likely]] {
      return absl::OkStatus();
    }
    return Error(
        Reason::kImageCorrupt,
        "qcow2 image was found to be corrupt while in use, and is not written any more: close "
        "and repair it");
  }

 private:
  std::atomic<bool> corrupt_ = false;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_HEALTH_H_
