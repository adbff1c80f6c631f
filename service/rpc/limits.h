// Every bound of the gRPC front, with its reason.
#ifndef SERVICE_RPC_LIMITS_H_
#define SERVICE_RPC_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::rpc {

// Bytes of one request: the largest legal ones are transactions of some thousand actions.
constexpr int kRequestBytesMax = 4 << 20;
// Bytes of one response: a query of very many nodes.
constexpr int kResponseBytesMax = 64 << 20;
// RPCs under way at once on one connection.
constexpr int kConcurrentRpcsPerConnectionMax = 1'000;
// Connections to unix sockets: of one user, and of all together. Numbers go
// to users in blocks, so with many users the second is reached before that many are open.
constexpr int kUnixConnectionsPerUserMax = 1'024;
constexpr int kUnixNumbersMax = 16'384;
// After a user's last connection has ended, until others may have the user's numbers. A call asks
// who made it as it begins, so what was still on its way then has long begun.
constexpr absl::Duration kUnixNumbersRest = absl::Minutes(1);
// Connections to TCP addresses from one host (tcp_peers.h): so many if the process may have eight
// times as many descriptors, else an eighth of them, but never less than the second. Clients need
// one each; many may sit behind one address.
constexpr size_t kTcpConnectionsPerPeerMax = 1'024;
constexpr size_t kTcpConnectionsPerPeerMin = 64;
// Clients that the kernel lets wait until they are accepted.
constexpr int kUnixBacklog = 1'024;
constexpr int kTcpBacklog = 4'096;
// After the process has run out of descriptors, until it looks for clients again.
constexpr absl::Duration kAcceptRetryInterval = absl::Milliseconds(100);
// Clients that cannot be taken are told about on stderr not more often than this.
constexpr absl::Duration kWarningInterval = absl::Minutes(1);
// Streams and waits (WatchEvents, WatchInstances, WatchJob, WaitJob) at once, of all clients.
constexpr size_t kStreamsMax = 4'000;
// Calls that are answered as soon as they can be, at once, of all clients: fewer than commands may
// wait in an engine, so that its queue is never what one client has filled.
constexpr size_t kCallsMax = 4'000;
// Threads of calls that gRPC answers by itself, one each (reflection).
constexpr int kTransportThreadsMax = 32;
// Those streams: so many leave threads to those who wait for the next one.
constexpr size_t kReflectionStreamsMax = 24;
// What a call or stream takes besides what its client sent and is sent. Replies are counted beyond
// it, so that one to a command that changed something never fails for want of memory.
constexpr size_t kCallBytes = 4 << 10;

// A connection that says nothing for this long is asked whether it lives, and closed without an
// answer.
constexpr absl::Duration kKeepaliveTime = absl::Seconds(60);
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(20);
// Clients that ask more often than this are told to go away.
constexpr absl::Duration kClientPingIntervalMin = absl::Seconds(10);

// A connection without a call is closed after the first of these. One that is older than the second
// takes no more calls, and those under way have the third to end: what a client has left half-said
// is gone by then. Clients connect again by themselves.
constexpr absl::Duration kConnectionIdleMax = absl::Minutes(30);
constexpr absl::Duration kConnectionAgeMax = absl::Hours(24);
constexpr absl::Duration kConnectionAgeGrace = absl::Hours(1);
// What gRPC may hold unless said: see ServerOptions.
constexpr uint64_t kTransportBytesDefault = 64 << 20;

// Events that a stream takes from the log at a time, and looks at before it lets others run.
constexpr size_t kEventsPerStepMax = 256;

constexpr absl::Duration kHeartbeatDefault = absl::Seconds(10);
// A stream whose newest events do not pass its filters says that it is behind them as soon as it
// has been silent for this long.
constexpr absl::Duration kPassedInterval = absl::Milliseconds(100);
constexpr absl::Duration kProgressIntervalDefault = absl::Milliseconds(100);
constexpr absl::Duration kWaitMax = absl::Hours(24);
// No timer of a stream is longer: one that outlives its stream is soon gone.
constexpr absl::Duration kTimerMax = absl::Seconds(10);
// A timer that comes so much too late is not replaced by another.
constexpr absl::Duration kTimerSlack = absl::Milliseconds(1);

// Instances in one response of ListInstances: unless said, and at most.
constexpr int kInstancesPageDefault = 100;
constexpr int kInstancesPageMax = 1'000;

// Clients accept 8 KiB of metadata with a status, and tell something else about it if it is more.
// So what counts is how it is sent: the message with three bytes for each that is not plain ASCII
// ("%C3%A9"), and the details, which have the message again, four for three (base64).
constexpr size_t kErrorMessageEncodedBytesMax = 2'048;
constexpr size_t kErrorDetailsBytesMax = 3'072;
// Bytes of each value in the details, and how many.
constexpr size_t kErrorValueBytesMax = 512;
constexpr size_t kErrorValuesMax = 8;

// How long answers and last events may take to reach their clients when the service stops; a client
// that is connected but does not listen costs this long.
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);
// And how long it may take after that to cancel what is under way: no time, but where a client
// takes nothing from its socket.
constexpr absl::Duration kCancelGrace = absl::Seconds(3);

// Bytes of a startup file, and of a file with a certificate, a key or tokens.
constexpr size_t kStartupFileBytesMax = 16 << 20;
constexpr size_t kCertificateBytesMax = 1 << 20;
constexpr size_t kTokensBytesMax = 1 << 20;
// Each call is held against all of them.
constexpr size_t kTokensMax = 1'000;
constexpr size_t kTokenNameBytesMax = 63;

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_LIMITS_H_
