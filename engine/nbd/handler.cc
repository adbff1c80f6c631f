#include "engine/nbd/handler.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/block_status.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

namespace {

using Content = storage::Extent::Content;

// Flags that a command may carry. FUA is legal everywhere, though it only matters for changes.
uint16_t LegalFlags(Command command) {
  switch (command) {
    case Command::kRead:
      return kCommandFua | kCommandDf;
    case Command::kWriteZeroes:
      return kCommandFua | kCommandNoHole | kCommandFastZero;
    case Command::kBlockStatus:
      return kCommandFua | kCommandReqOne;
    default:
      return kCommandFua;
  }
}

bool IsKnown(Command command) { return command <= Command::kBlockStatus; }

bool IsChange(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

bool HasPayloadLimit(Command command) {
  return command == Command::kRead || command == Command::kWrite || command == Command::kCache;
}

absl::string_view Describe(Errno error) {
  switch (error) {
    case Errno::kPermission:
      return "the export is read-only";
    case Errno::kNoSpace:
      return "the range ends past the end of the export";
    case Errno::kInvalid:
      return "the request is not valid for this export";
    default:
      return "the request failed";
  }
}

}  // namespace

size_t Handler::MemoryNeeded(const Request& request) {
  switch (request.command) {
    case Command::kRead:
      return std::min<uint64_t>(request.range.length_bytes, kPayloadBytesMax);
    case Command::kWrite:
      return request.payload.size();
    case Command::kCache:
      return kCacheStepBytes;
    case Command::kBlockStatus:
      return kExtentsMax * sizeof(StatusExtent);
    default:
      return 0;
  }
}

Reply Handler::Run(const Request& request, absl::FunctionRef<bool()> is_gone) const {
  ClientPresence client(is_gone);
  const Errno error = Validate(request);
  if (error != Errno::kNone) return Failure(request, error, Describe(error));
  switch (request.command) {
    case Command::kRead:
      return Read(request, client);
    case Command::kBlockStatus:
      return BlockStatus(request, client);
    default:
      return Outcome(request, Change(request, client));
  }
}

Errno Handler::Validate(const Request& request) const {
  if (!IsKnown(request.command) || request.payload_too_long) return Errno::kInvalid;
  if (const Errno error = ValidateFlags(request); error != Errno::kNone) return error;
  if (request.command == Command::kFlush) return Errno::kNone;
  if (IsChange(request.command) && session_.read_only) return Errno::kPermission;
  return ValidateRange(request);
}

Errno Handler::ValidateFlags(const Request& request) const {
  if ((request.flags & ~LegalFlags(request.command)) != 0) return Errno::kInvalid;
  if ((request.flags & kCommandDf) != 0 && !session_.structured) return Errno::kInvalid;
  if (request.command == Command::kBlockStatus && session_.contexts.empty()) {
    return Errno::kInvalid;
  }
  return Errno::kNone;
}

Errno Handler::ValidateRange(const Request& request) const {
  if (!request.range.FitsIn(session_.size_bytes)) {
    const bool grows =
        request.command == Command::kWrite || request.command == Command::kWriteZeroes;
    return grows ? Errno::kNoSpace : Errno::kInvalid;
  }
  if (HasPayloadLimit(request.command) && request.range.length_bytes > kPayloadBytesMax) {
    return Errno::kInvalid;
  }
  if (request.command == Command::kBlockStatus && request.range.empty()) return Errno::kInvalid;
  const uint64_t mask = session_.alignment_bytes - 1;
  if (((request.range.offset_bytes | request.range.length_bytes) & mask) != 0) {
    return Errno::kInvalid;
  }
  return Errno::kNone;
}

Reply Handler::Read(const Request& request, ClientPresence& client) const {
  Memory memory = pool_->Take(request.range.length_bytes);
  const bool may_be_sparse = session_.structured && (request.flags & kCommandDf) == 0 &&
                             request.range.length_bytes >= kHoleProbeBytesMin;
  if (may_be_sparse) return ReadSparse(request, std::move(memory), client);
  if (memory.size() > 0) {
    const absl::Status status = storage().Read(request.range.offset_bytes, memory.bytes());
    if (!status.ok()) return Outcome(request, status);
  }
  if (!session_.structured) return Reply::Simple(request.cookie, Errno::kNone, std::move(memory));
  if (request.range.empty()) return Reply::Done(request.cookie);
  Reply reply(request.cookie, std::move(memory));
  reply.AddData(request.range, 0, /*last=*/true);
  return reply;
}

// Holes are told instead of sent. What one Map says and the Read that follows need not be of the
// same moment: each byte is as it was at some time while the request ran.
Reply Handler::ReadSparse(const Request& request, Memory memory, ClientPresence& client) const {
  std::vector<storage::Extent> extents;
  const storage::Bytes bytes = memory.bytes();
  Range rest = request.range;
  const auto memory_offset = [&](Range range) {
    return range.offset_bytes - request.range.offset_bytes;
  };
  while (!rest.empty()) {
    storage::Extent extent;
    extent.range = rest;  // As data, if there are too many extents to tell apart.
    if (const absl::Status present = client.Check(); !present.ok()) {
      return Outcome(request, present);
    }
    if (extents.size() + 1 < kReadChunksMax) {
      auto mapped = storage().Map(rest);
      if (!mapped.ok()) return Outcome(request, mapped.status());
      extent = *mapped;
    }
    rest = Range::FromTo(extent.range.end_bytes(), rest.end_bytes());
    if (!extents.empty() && extents.back().content == extent.content) {
      extents.back().range.length_bytes += extent.range.length_bytes;
    } else {
      extents.push_back(extent);
    }
  }
  for (const storage::Extent& extent : extents) {
    if (extent.content == Content::kZero) continue;
    absl::Status status = client.Check(extent.range.length_bytes);
    if (status.ok()) {
      status = storage().Read(extent.range.offset_bytes, bytes.subspan(memory_offset(extent.range),
                                                                       extent.range.length_bytes));
    }
    if (!status.ok()) return Outcome(request, status);
  }
  Reply reply(request.cookie, std::move(memory));
  for (const storage::Extent& extent : extents) {
    const bool last = &extent == &extents.back();
    if (extent.content == Content::kZero) {
      reply.AddHole(extent.range, last);
    } else {
      reply.AddData(extent.range, memory_offset(extent.range), last);
    }
  }
  return reply;
}

Reply Handler::BlockStatus(const Request& request, ClientPresence& client) const {
  const size_t extents_max = (request.flags & kCommandReqOne) != 0 ? 1 : kExtentsMax;
  std::vector<std::vector<StatusExtent>> answers;
  size_t extent_count = 0;
  for (const Context& context : session_.contexts) {
    auto extents = StatusOf(*session_.exported, context, request.range,
                            std::max<size_t>(1, extents_max / session_.contexts.size()), client);
    if (!extents.ok()) return Outcome(request, extents.status());
    extent_count += extents->size();
    answers.push_back(*std::move(extents));
  }
  constexpr size_t kExtentBytes = 8;
  Memory memory = pool_->Take(extent_count * kExtentBytes);
  std::byte* next = memory.data();
  std::byte* const begin = next;
  Reply reply(request.cookie, std::move(memory));
  for (size_t i = 0; i < answers.size(); ++i) {
    const size_t offset = static_cast<size_t>(next - begin);
    for (const StatusExtent& extent : answers[i]) {
      StoreBigEndian(next, extent.length_bytes);
      StoreBigEndian(next + 4, extent.flags);
      next += kExtentBytes;
    }
    reply.AddBlockStatus(session_.contexts[i].id(), offset, answers[i].size() * kExtentBytes,
                         /*last=*/i + 1 == answers.size());
  }
  return reply;
}

absl::Status Handler::Change(const Request& request, ClientPresence& client) const {
  const bool is_empty = request.range.empty();
  switch (request.command) {
    case Command::kFlush:
      return storage().Flush();
    case Command::kCache:
      return Cache(request.range, client);
    case Command::kWrite:
      if (!is_empty) {
        RETURN_IF_ERROR(storage().Write(request.range.offset_bytes, request.payload));
      }
      break;
    case Command::kTrim:
      if (!is_empty) RETURN_IF_ERROR(storage().Discard(request.range));
      break;
    default: {
      storage::ZeroOptions options;
      options.may_unmap = (request.flags & kCommandNoHole) == 0;
      options.fast_only = (request.flags & kCommandFastZero) != 0;
      if (!is_empty) RETURN_IF_ERROR(storage().WriteZeroes(request.range, options));
    }
  }
  return (request.flags & kCommandFua) != 0 ? storage().Flush() : absl::OkStatus();
}

// Reading is what brings data nearer, through every layer below.
absl::Status Handler::Cache(Range range, ClientPresence& client) const {
  Memory memory = pool_->Take(std::min<uint64_t>(range.length_bytes, kCacheStepBytes));
  while (!range.empty()) {
    const auto step = std::min<uint64_t>(range.length_bytes, kCacheStepBytes);
    RETURN_IF_ERROR(client.Check(step));
    RETURN_IF_ERROR(storage().Read(range.offset_bytes, memory.bytes().first(step)));
    range = Range::FromTo(range.offset_bytes + step, range.end_bytes());
  }
  return absl::OkStatus();
}

Reply Handler::Outcome(const Request& request, const absl::Status& status) const {
  if (!status.ok()) return Failure(request, ErrnoOf(status), status.message());
  return session_.structured && request.command == Command::kRead
             ? Reply::Done(request.cookie)
             : Reply::Simple(request.cookie, Errno::kNone);
}

Reply Handler::Failure(const Request& request, Errno error, absl::string_view text) const {
  return session_.structured ? Reply::Failure(request.cookie, error, text, *pool_)
                             : Reply::Simple(request.cookie, error);
}

}  // namespace tidemark::nbd
