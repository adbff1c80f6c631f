// The kernel's errors as statuses, and statuses as errnos for the NBD wire. Pure; any thread.
#ifndef ENGINE_STORAGE_ERRNO_STATUS_H_
#define ENGINE_STORAGE_ERRNO_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/range.h"

namespace tidemark::storage {

// The status of a system call that failed with `errno_value` (not 0). `attempted` says what was
// attempted on which object, as "cannot open image \"/a.qcow2\""; the errno's text follows it.
//
// ENOENT and ENOTDIR are FILE_NOT_FOUND; ENOSPC, EDQUOT and EFBIG NO_SPACE; EACCES, EPERM and EROFS
// FILE_ACCESS_DENIED; EOPNOTSUPP FEATURE_UNSUPPORTED; EMFILE LIMIT_REACHED; all others IO_ERROR.
absl::Status ErrnoStatus(int errno_value, absl::string_view attempted);

// The status of a flush that failed like this, for good: the kernel has forgotten what had been
// written, so flushing again cannot make it durable. Kept by Annotate.
absl::Status LossStatus(int errno_value, absl::string_view attempted);
// Whether it is one.
bool IsLoss(const absl::Status& status);

// The errno that tells an NBD client, or another program, most nearly the same: 0 for OK, EIO where
// nothing fits better.
int ErrnoOf(const absl::Status& status);

// OUT_OF_RANGE: `range` of the object `name` reaches past its `size_bytes`.
absl::Status PastEndError(absl::string_view name, Range range, uint64_t size_bytes);

// FEATURE_UNSUPPORTED: `name` does not know what it holds nothing of
// (WriteOptions::only_unallocated).
absl::Status HoldsAllError(absl::string_view name);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_ERRNO_STATUS_H_
