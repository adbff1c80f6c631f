// Every bound of the NBD server, by name. A client is never trusted to stay within them.
#ifndef ENGINE_NBD_LIMITS_H_
#define ENGINE_NBD_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::nbd {

// Clients of one server at a time.
inline constexpr int kConnectionsMax = 1024;
inline constexpr int kListenBacklog = 128;
inline constexpr size_t kExportsMax = 4096;

// Of export names, descriptions, bitmap names and context queries (the protocol's limit).
inline constexpr size_t kNameBytesMax = 4096;

// Handshake: time for all of it, options in it, and the data of one option. Longer data is skipped
// and refused; more than can be skipped ends the connection.
inline constexpr absl::Duration kHandshakeTimeout = absl::Seconds(30);
inline constexpr int kOptionsMax = 256;
inline constexpr uint32_t kOptionBytesMax = 64 * 1024;
inline constexpr uint32_t kOptionBytesSkippedMax = 1024 * 1024;
// Contexts that one client may select.
inline constexpr size_t kContextsMax = 256;

// The most data of one read or write.
inline constexpr uint32_t kPayloadBytesMax = 32 * 1024 * 1024;
inline constexpr uint32_t kPreferredBlockBytes = 4096;

// Of one connection: requests read but not answered, and memory for their data. A client that does
// not take its answers is not read from any more. One request is always admitted.
inline constexpr int kRequestsInFlightMax = 128;
inline constexpr size_t kBytesInFlightMax = 32 * 1024 * 1024;
// Threads that run the requests of one connection.
inline constexpr int kThreadsPerConnectionMax = 16;

// Requests are received in blocks of this many bytes; larger payloads have memory of their own.
inline constexpr size_t kReceiveBlockBytes = 256 * 1024;

// Extents in one answer about one context.
inline constexpr size_t kExtentsMax = 8192;
// Bytes of text in an error reply.
inline constexpr size_t kErrorTextBytesMax = 1024;

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_LIMITS_H_
