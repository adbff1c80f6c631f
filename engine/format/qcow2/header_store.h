// The header of an open image, in memory and at the beginning of its file: the one place that
// writes it. Any thread; writers take turns.
#ifndef ENGINE_FORMAT_QCOW2_HEADER_STORE_H_
#define ENGINE_FORMAT_QCOW2_HEADER_STORE_H_

#include <functional>

#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "engine/format/qcow2/header.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

class HeaderStore {
 public:
  HeaderStore(storage::Storage* file, Header header) : file_(*file), header_(std::move(header)) {}

  Header Get() const {
    MutexLock lock(&mutex_);
    return header_;
  }

  // Changes numbers of the fixed header, durably, and nothing else: one sector is written, so a
  // crash leaves the old or the new.
  absl::Status Patch(const std::function<void(Header&)>& change);

  // Changes anything, durably. If `change` fails or the result does not fit, nothing happens. It is
  // one write from offset 0: a crash leaves the old or the new as far as the disk does not tear a
  // write of the header's length, extensions and backing file name included (none tears a sector,
  // and few a page; a longer header can be torn).
  absl::Status Rewrite(const std::function<absl::Status(Header&)>& change);

 private:
  absl::Status WriteAndKeep(Header changed, storage::ConstBytes bytes);

  storage::Storage& file_;

  // Held through I/O, so that changes do not overwrite each other. Taken before mutex_.
  Mutex turn_;
  mutable Mutex mutex_;
  Header header_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_HEADER_STORE_H_
