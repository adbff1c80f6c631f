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
// Before accepting is tried again when this process has no descriptors or memory left.
inline constexpr absl::Duration kAcceptRetryInterval = absl::Milliseconds(100);
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
// Helpers that one connection may have had in its life, counting those that have retired: an ended
// thread is kept until the connection ends.
inline constexpr size_t kHelpersEverMax = 1024;

// Of all connections together, unless the server is given other budgets: memory for requests that
// need more than kUnbudgetedBytesMax, and threads beyond the one that each connection has.
inline constexpr uint64_t kServerBytesMax = 256 * 1024 * 1024;
inline constexpr uint64_t kServerHelpersMax = 128;
inline constexpr size_t kUnbudgetedBytesMax = 128 * 1024;
// A client that takes none of its answers, or sends none of the data it has announced, for so long
// is dropped if others wait for the memory that it holds.
inline constexpr absl::Duration kStalledClientMax = absl::Seconds(10);

// A request that takes longer is worth waking another thread for (which costs about as much), and
// so is an answer that has waited so long.
inline constexpr absl::Duration kInlineCostMax = absl::Microseconds(40);
// After so many slow requests of a kind it is seen whether they are still slow one by one.
inline constexpr int kSlowRequestsBelieved = 1024;
// Answers sent with one call, at most about so many or so large.
inline constexpr size_t kRepliesPerSend = 32;
inline constexpr size_t kBytesPerSend = 256 * 1024;
// A client counts as one with several requests in flight for so many requests.
inline constexpr int kPipeliningMemory = 64;
// Looking for the next request before sleeping (spin_policy.h): for how long, for how many requests
// a way is tried and kept, and after how long a client counts as at rest.
inline constexpr absl::Duration kSpin = absl::Microseconds(50);
inline constexpr int kSpinTriedRequests = 32;
inline constexpr int kSpinKeptRequests = 1024;
inline constexpr absl::Duration kSpinPause = absl::Milliseconds(1);
// Connections whose threads are all stuck get another one within about this time. The watch sleeps
// when it has found nothing running so many times in a row.
inline constexpr absl::Duration kStallCheckInterval = absl::Milliseconds(2);
inline constexpr int kIdleRoundsBeforeSleep = 50;

// Memory that a server keeps for the next requests when nobody needs it.
inline constexpr size_t kPoolBytesMax = 32 * 1024 * 1024;

// Requests are received in blocks of this many bytes; larger payloads have memory of their own.
inline constexpr size_t kReceiveBlockBytes = 256 * 1024;
inline constexpr size_t kSmallPayloadBytesMax = 64 * 1024;

// Sockets: memory asked of the kernel for answers on their way, pieces handed over in one call.
inline constexpr int kSocketBufferBytes = 1024 * 1024;
inline constexpr size_t kPartsPerSendMax = 256;
// How often a thread that waits for a client to take answers looks whether it should give up, and
// how long a client may still take answers after it has been disconnected.
inline constexpr absl::Duration kSendCheckInterval = absl::Milliseconds(100);
inline constexpr absl::Duration kSendGrace = absl::Seconds(1);

// Reads of at least this many bytes are looked at for holes, told in at most so many chunks.
inline constexpr uint32_t kHoleProbeBytesMin = 64 * 1024;
inline constexpr size_t kReadChunksMax = 64;
// NBD_CMD_CACHE reads in steps of this size.
inline constexpr uint32_t kCacheStepBytes = 1024 * 1024;

// After so many pieces of one request, or so many bytes read for it, it is seen whether its client
// is still there.
inline constexpr int kPiecesPerPresenceCheck = 64;
inline constexpr uint64_t kBytesPerPresenceCheck = 1024 * 1024;

// Extents in one answer about one context.
inline constexpr size_t kExtentsMax = 8192;
// Bytes of text in an error reply.
inline constexpr size_t kErrorTextBytesMax = 1024;

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_LIMITS_H_
