#include "engine/storage/errno_status.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/descriptor_reserve.h"
#include "engine/base/error.h"

namespace tidemark::storage {
namespace {

// Of the payload that marks a loss.
constexpr char kLossUrl[] = "tidemark/lost-writes";

Reason ReasonOf(int errno_value) {
  switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
      return Reason::kFileNotFound;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Reason::kNoSpace;
    case EACCES:
    case EPERM:
    case EROFS:
      return Reason::kFileAccessDenied;
    case EOPNOTSUPP:
      return Reason::kFeatureUnsupported;
    default:
      return Reason::kIoError;
  }
}

}  // namespace

absl::Status ErrnoStatus(int errno_value, absl::string_view attempted) {
  CHECK(errno_value != 0);
  if (errno_value == EMFILE) return OutOfDescriptorsError(attempted);
  char space[128];
  const char* text = strerror_r(errno_value, space, sizeof(space));
  const char* const name = strerrorname_np(errno_value);
  return Error(ReasonOf(errno_value), absl::StrCat(attempted, ": ", text),
               {{"errno", name == nullptr ? absl::StrCat(errno_value) : name}});
}

absl::Status LossStatus(int errno_value, absl::string_view attempted) {
  absl::Status status = ErrnoStatus(errno_value, attempted);
  status.SetPayload(kLossUrl, absl::Cord());
  return status;
}

bool IsLoss(const absl::Status& status) { return status.GetPayload(kLossUrl).has_value(); }

int ErrnoOf(const absl::Status& status) {
  if (status.ok()) return 0;
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  if (details.has_value()) {
    if (details->reason == Reason::kNodeReadOnly) return EROFS;
    if (details->reason == Reason::kNoSpace) return ENOSPC;
  }
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return EINVAL;
    case absl::StatusCode::kPermissionDenied:
      return EPERM;
    case absl::StatusCode::kUnimplemented:
      return EOPNOTSUPP;
    case absl::StatusCode::kUnavailable:
      return ESHUTDOWN;
    default:
      return EIO;
  }
}

absl::Status PastEndError(absl::string_view name, Range range, uint64_t size_bytes) {
  return absl::OutOfRangeError(absl::StrCat("range of ", range.length_bytes, " bytes at ",
                                            range.offset_bytes, " reaches past the end of ", name,
                                            " (", size_bytes, " bytes)"));
}

absl::Status HoldsAllError(absl::string_view name) {
  return Error(Reason::kFeatureUnsupported,
               absl::StrCat("cannot write only where nothing is allocated: ", name,
                            " holds all of its disk"));
}

}  // namespace tidemark::storage
