// The qcow2 file format in numbers: magic values, flags, field positions. Any thread.
#ifndef ENGINE_FORMAT_QCOW2_LAYOUT_H_
#define ENGINE_FORMAT_QCOW2_LAYOUT_H_

#include <cstdint>

namespace tidemark::qcow2 {

// As stored in the header's compression_type byte.
enum class CompressionType : uint8_t { kZlib = 0, kZstd = 1 };

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_LAYOUT_H_
