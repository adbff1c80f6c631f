// The numbers of the NBD protocol (https://github.com/NetworkBlockDevice/nbd, doc/proto.md), under
// the protocol's own names. All of them travel big-endian. Any thread.
#ifndef ENGINE_NBD_PROTOCOL_H_
#define ENGINE_NBD_PROTOCOL_H_

#include <cstddef>
#include <cstdint>

namespace tidemark::nbd {

// Handshake. The server speaks first: kInitMagic, kOptionMagic, handshake flags (16 bits).
inline constexpr uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

// Handshake flags, of the server and of the client alike.
inline constexpr uint16_t kFlagFixedNewstyle = 1 << 0;
inline constexpr uint16_t kFlagNoZeroes = 1 << 1;

// An option: kOptionMagic (64), option (32), length (32), data.
inline constexpr size_t kOptionHeaderBytes = 16;
// Its reply: kOptionReplyMagic (64), option (32), reply type (32), length (32), data.
inline constexpr size_t kOptionReplyHeaderBytes = 20;
// After the answer to kExportName, unless both sides said kFlagNoZeroes.
inline constexpr size_t kExportNameZeroBytes = 124;

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrorUnsupported = 0x80000001,
  kErrorPolicy = 0x80000002,
  kErrorInvalid = 0x80000003,
  kErrorUnknown = 0x80000006,
  kErrorShutdown = 0x80000007,
  kErrorBlockSizeRequired = 0x80000008,
  kErrorTooBig = 0x80000009,
};

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

// Transmission flags: what an export can do.
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kSendFlush = 1 << 2;
inline constexpr uint16_t kSendFua = 1 << 3;
inline constexpr uint16_t kSendTrim = 1 << 5;
inline constexpr uint16_t kSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kSendDf = 1 << 7;
inline constexpr uint16_t kCanMultiConn = 1 << 8;
inline constexpr uint16_t kSendCache = 1 << 10;
inline constexpr uint16_t kSendFastZero = 1 << 11;

// A request: magic (32), flags (16), command (16), cookie (64), offset (64), length (32), then the
// data of a write.
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr size_t kRequestHeaderBytes = 28;

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

inline constexpr uint16_t kCommandFua = 1 << 0;
inline constexpr uint16_t kCommandNoHole = 1 << 1;
inline constexpr uint16_t kCommandDf = 1 << 2;
inline constexpr uint16_t kCommandReqOne = 1 << 3;
inline constexpr uint16_t kCommandFastZero = 1 << 4;

// A simple reply: magic (32), error (32), cookie (64), then the data of a read.
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr size_t kSimpleReplyHeaderBytes = 16;
// A chunk of a structured reply: magic (32), flags (16), type (16), cookie (64), length (32), data.
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr size_t kChunkHeaderBytes = 20;
inline constexpr uint16_t kChunkDone = 1 << 0;

enum class Chunk : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kError = 0x8001,
};

// Errors in replies: numbers of the protocol, whatever errno.h of this machine says.
enum class Errno : uint32_t {
  kNone = 0,
  kPermission = 1,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};

// Status flags of the context base:allocation.
inline constexpr uint32_t kStateHole = 1 << 0;
inline constexpr uint32_t kStateZero = 1 << 1;
// Of qemu:dirty-bitmap:<name>.
inline constexpr uint32_t kStateDirty = 1 << 0;

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_PROTOCOL_H_
