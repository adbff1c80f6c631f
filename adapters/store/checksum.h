// The checksum of a row: SQLite has none. Any thread.
#ifndef ADAPTERS_STORE_CHECKSUM_H_
#define ADAPTERS_STORE_CHECKSUM_H_

#include <zlib.h>

#include <cstdint>
#include <initializer_list>

#include "absl/strings/string_view.h"
#include "engine/base/endian.h"

namespace tidemark::store {

// Over the numbers and the body of a row.
inline int64_t Checksum(std::initializer_list<uint64_t> numbers, absl::string_view body) {
  uLong sum = crc32(0, nullptr, 0);
  for (const uint64_t number : numbers) {
    char bytes[8];
    StoreBigEndian(bytes, number);
    sum = crc32(sum, reinterpret_cast<const Bytef*>(bytes), sizeof(bytes));
  }
  sum = crc32(sum, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return static_cast<int64_t>(sum);
}

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_CHECKSUM_H_
