// Every bound of the wire to a QEMU, with its reason. A peer is never trusted to stay within them.
#ifndef ADAPTERS_QMP_LIMITS_H_
#define ADAPTERS_QMP_LIMITS_H_

#include <cstddef>

#include "absl/time/time.h"

namespace tidemark::qmp {

// One value that a monitor sends. The largest seen, query-named-block-nodes of a host's longest
// chains, has some 10 MiB.
inline constexpr size_t kLineBytesMax = size_t{64} << 20;
// Values up to this are parsed on the I/O thread, in well under a millisecond; longer ones by a
// worker.
inline constexpr size_t kLoopLineBytesMax = size_t{64} << 10;
// What one call receives, and in how many calls, before the I/O thread turns to the next monitor.
inline constexpr size_t kReceiveBytes = size_t{64} << 10;
inline constexpr int kReceivesPerTurn = 2;

// Commands that a monitor has not taken yet, and commands without a reply.
inline constexpr size_t kSendBytesMax = size_t{16} << 20;
inline constexpr size_t kCommandsWaitingMax = 10'000;

// QEMU's own parser stops at this depth; a chain of images is told nested, one level for each.
inline constexpr size_t kJsonDepthMax = 1'024;
// Values in one line: bounds the memory for a parsed one to about 200 MiB.
inline constexpr size_t kJsonValuesMax = size_t{2} << 20;

// One event; the largest that QEMU has are a few hundred bytes and names. It is kept for every
// watcher.
inline constexpr size_t kEventBytesMax = size_t{64} << 10;
// Events that came before the monitor had greeted, or taken qmp_capabilities: QEMU sends none or a
// few.
inline constexpr size_t kEarlyEventsMax = 256;

// How much of a peer's or client's text a message shows.
inline constexpr size_t kShownBytesMax = 120;

// How much of an error's text is kept: paths in it have up to 4 KiB each. How much of it is looked
// at to find out what it means.
inline constexpr size_t kErrorTextBytesMax = size_t{16} << 10;
inline constexpr size_t kErrorMatchBytesMax = size_t{2} << 10;
// What a virtual machine tells of itself: its name, its UUID, its QEMU's package.
inline constexpr size_t kIdentityBytesMax = 256;

// Names of a refused request that its error repeats: how many, from how deep, how much of each.
inline constexpr size_t kErrorNamesMax = 12;
inline constexpr int kErrorNamesDepthMax = 8;
inline constexpr size_t kErrorNameBytesMax = 512;

// Descriptors that one look at the poll returns.
inline constexpr int kPollEventsMax = 64;

// See ConnectionLimits.
inline constexpr absl::Duration kConnectMax = absl::Seconds(10);
inline constexpr absl::Duration kHandshakeMax = absl::Seconds(10);
inline constexpr absl::Duration kSilenceMax = absl::Seconds(30);

// Who looks this much later than it wanted to was stopped, or is slow: a peer is not to blame.
inline constexpr absl::Duration kTickLateMax = absl::Seconds(1);

// A monitor that is silent with nothing to do is asked for a sign of life this often.
inline constexpr absl::Duration kKeepaliveInterval = absl::Seconds(10);

// Between two attempts to connect: the first wait, the longest, and that for a peer that cannot be
// used until somebody changes it. Each is shortened by chance, by up to half.
inline constexpr absl::Duration kReconnectFirst = absl::Milliseconds(100);
inline constexpr absl::Duration kReconnectMax = absl::Seconds(10);
inline constexpr absl::Duration kReconnectUnusable = absl::Seconds(30);
// A connection that was ready for so long was a good one: after it, waits begin with the first
// again. A peer that always hangs up at once is not asked ten times a second.
inline constexpr absl::Duration kSteadyMin = absl::Seconds(10);

// While QEMU is asked something that must be told first, what comes behind is held: so many events
// beside the answers to all commands, so long. Beyond it the peer is not what it says it is.
inline constexpr size_t kHeldMax = kCommandsWaitingMax + 2'000;
inline constexpr absl::Duration kHeldMaxTime = absl::Seconds(60);
// What can be done only once events are saved waits so long for it.
inline constexpr absl::Duration kSavedWaitMax = absl::Seconds(10);
// Jobs and exports of one virtual machine that are kept in the books at a time.
inline constexpr size_t kJobsMax = 10'000;
inline constexpr size_t kExportsMax = 10'000;
// A peer whose process is not known counts as ended when it could not be reached for so long.
inline constexpr absl::Duration kGoneAfter = absl::Seconds(30);

// Between a new socket in a watched folder and the first attempt to connect. A QEMU that has just
// made its monitor hands it from one of its threads to another; of a client that comes meanwhile
// both threads read, now and then, and tear its commands (seen with storage daemons of 7.2 and
// 10.0.2, about once in a thousand). Such a connection is found to be broken and made anew, but a
// command may be lost.
inline constexpr absl::Duration kSettleTime = absl::Milliseconds(200);

// Ending all connections takes no time, but where the state folder hangs with what is to be stored
// of an instance.
inline constexpr absl::Duration kShutdownPatience = absl::Seconds(10);

// Virtual machines at a time: far more than a host has.
inline constexpr size_t kInstancesMax = 10'000;
// Bytes of a file of instances.
inline constexpr size_t kInstancesFileBytesMax = size_t{16} << 20;

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_LIMITS_H_
