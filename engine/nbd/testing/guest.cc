#include "engine/nbd/testing/guest.h"

#include <errno.h>

#include "absl/types/variant.h"

namespace tidemark::nbd {

int Guest::Result(int result) {
  if (result >= 0) return 0;
  error_ = nbd_get_error() == nullptr ? "" : nbd_get_error();
  const int code = nbd_get_errno();
  return code == 0 ? EIO : code;
}

int Guest::Connect(const Address& address, const Wishes& wishes) {
  nbd_set_strict_mode(handle_, 0);  // What the server refuses must reach it.
  nbd_set_export_name(handle_, wishes.export_name.c_str());
  nbd_set_full_info(handle_, true);
  nbd_set_request_structured_replies(handle_, wishes.structured);
  nbd_set_opt_mode(handle_, wishes.stay_in_options);
  if (!wishes.fixed_newstyle) nbd_set_handshake_flags(handle_, 0);
  for (const std::string& context : wishes.contexts) {
    nbd_add_meta_context(handle_, context.c_str());
  }
  if (const auto* local = absl::get_if<UnixAddress>(&address)) {
    return Result(nbd_connect_unix(handle_, local->path.c_str()));
  }
  const auto& tcp = absl::get<TcpAddress>(address);
  return Result(nbd_connect_tcp(handle_, tcp.host.c_str(), tcp.port.c_str()));
}

std::string Guest::Read(uint64_t offset_bytes, uint64_t length_bytes) {
  std::string data(length_bytes, '?');
  const int result = Result(nbd_pread(handle_, data.data(), data.size(), offset_bytes, 0));
  return result == 0 ? data : "";
}

int Guest::TryRead(uint64_t offset_bytes, uint64_t length_bytes) {
  std::string data(length_bytes, '?');
  return Result(nbd_pread(handle_, data.data(), data.size(), offset_bytes, 0));
}

std::vector<Guest::ReadChunk> Guest::ReadChunks(uint64_t offset_bytes, uint64_t length_bytes,
                                                uint32_t flags) {
  std::vector<ReadChunk> chunks;
  std::string data(length_bytes, '?');
  nbd_chunk_callback callback = {};
  callback.user_data = &chunks;
  callback.callback = [](void* user_data, const void*, size_t count, uint64_t offset,
                         unsigned status, int*) {
    const auto kind = status == LIBNBD_READ_DATA   ? ReadChunk::Kind::kData
                      : status == LIBNBD_READ_HOLE ? ReadChunk::Kind::kHole
                                                   : ReadChunk::Kind::kError;
    static_cast<std::vector<ReadChunk>*>(user_data)->push_back({kind, offset, count});
    return 0;
  };
  Result(nbd_pread_structured(handle_, data.data(), data.size(), offset_bytes, callback, flags));
  return chunks;
}

int Guest::Write(uint64_t offset_bytes, const std::string& data, uint32_t flags) {
  return Result(nbd_pwrite(handle_, data.data(), data.size(), offset_bytes, flags));
}

int Guest::Zero(uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags) {
  return Result(nbd_zero(handle_, length_bytes, offset_bytes, flags));
}

int Guest::Trim(uint64_t offset_bytes, uint64_t length_bytes, uint32_t flags) {
  return Result(nbd_trim(handle_, length_bytes, offset_bytes, flags));
}

int Guest::Cache(uint64_t offset_bytes, uint64_t length_bytes) {
  return Result(nbd_cache(handle_, length_bytes, offset_bytes, 0));
}

int Guest::Flush() { return Result(nbd_flush(handle_, 0)); }

Guest::Extents Guest::Status(const std::string& name, uint64_t offset_bytes, uint64_t length_bytes,
                             uint32_t flags) {
  struct Wanted {
    const std::string& name;
    Extents extents;
  } wanted = {name, {}};
  nbd_extent_callback callback = {};
  callback.user_data = &wanted;
  callback.callback = [](void* user_data, const char* context, uint64_t, uint32_t* entries,
                         size_t count, int*) {
    auto* const wanted = static_cast<Wanted*>(user_data);
    if (wanted->name != context) return 0;
    for (size_t i = 0; i + 1 < count; i += 2) {
      wanted->extents.push_back({entries[i], entries[i + 1]});
    }
    return 0;
  };
  const int result = Result(nbd_block_status(handle_, length_bytes, offset_bytes, callback, flags));
  return result == 0 ? wanted.extents : Extents();
}

int Guest::TryStatus(uint64_t offset_bytes, uint64_t length_bytes) {
  nbd_extent_callback callback = {};
  callback.callback = [](void*, const char*, uint64_t, uint32_t*, size_t, int*) { return 0; };
  return Result(nbd_block_status(handle_, length_bytes, offset_bytes, callback, 0));
}

int64_t Guest::StartWrite(uint64_t offset_bytes, const std::string& data) {
  return nbd_aio_pwrite(handle_, data.data(), data.size(), offset_bytes, NBD_NULL_COMPLETION, 0);
}

int64_t Guest::StartRead(uint64_t offset_bytes, std::string* into) {
  return nbd_aio_pread(handle_, into->data(), into->size(), offset_bytes, NBD_NULL_COMPLETION, 0);
}

int64_t Guest::StartFlush() { return nbd_aio_flush(handle_, NBD_NULL_COMPLETION, 0); }

int Guest::Await(int64_t cookie) {
  for (;;) {
    const int done = nbd_aio_command_completed(handle_, cookie);
    if (done != 0) return Result(done);
    if (const int result = Result(nbd_poll(handle_, -1)); result != 0) return result;
  }
}

}  // namespace tidemark::nbd
