#include "engine/format/qcow2/layout.h"

#include "engine/base/endian.h"

namespace tidemark::qcow2 {

uint64_t LoadRefcount(const std::byte* block, uint64_t index, uint32_t refcount_order) {
  switch (refcount_order) {
    case 3:
      return static_cast<uint8_t>(block[index]);
    case 4:
      return LoadBigEndian<uint16_t>(block + index * 2);
    case 5:
      return LoadBigEndian<uint32_t>(block + index * 4);
    case 6:
      return LoadBigEndian<uint64_t>(block + index * 8);
    default: {
      const uint32_t bits = 1u << refcount_order;
      const uint64_t bit = index << refcount_order;
      return static_cast<uint8_t>(block[bit >> 3]) >> (bit & 7) & ((1u << bits) - 1);
    }
  }
}

void StoreRefcount(std::byte* block, uint64_t index, uint32_t refcount_order, uint64_t value) {
  switch (refcount_order) {
    case 3:
      block[index] = static_cast<std::byte>(value);
      return;
    case 4:
      StoreBigEndian(block + index * 2, static_cast<uint16_t>(value));
      return;
    case 5:
      StoreBigEndian(block + index * 4, static_cast<uint32_t>(value));
      return;
    case 6:
      StoreBigEndian(block + index * 8, value);
      return;
    default: {
      const uint32_t bits = 1u << refcount_order;
      const uint64_t bit = index << refcount_order;
      const unsigned shift = bit & 7;
      const unsigned mask = ((1u << bits) - 1) << shift;
      const unsigned old_byte = static_cast<uint8_t>(block[bit >> 3]);
      block[bit >> 3] = static_cast<std::byte>((old_byte & ~mask) | (value << shift & mask));
    }
  }
}

}  // namespace tidemark::qcow2
