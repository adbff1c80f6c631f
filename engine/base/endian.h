// Big-endian integers, as in qcow2, NBD and stored events, at any alignment. Any thread.
#ifndef ENGINE_BASE_ENDIAN_H_
#define ENGINE_BASE_ENDIAN_H_

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>

namespace tidemark {

template <std::unsigned_integral T>
constexpr T ByteSwapped(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <std::unsigned_integral T>
constexpr T BigEndian(T value) {
  return std::endian::native == std::endian::little ? ByteSwapped(value) : value;
}

template <std::unsigned_integral T>
T LoadBigEndian(const void* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return BigEndian(value);
}

template <std::unsigned_integral T>
void StoreBigEndian(void* bytes, T value) {
  value = BigEndian(value);
  std::memcpy(bytes, &value, sizeof(T));
}

}  // namespace tidemark

#endif  // ENGINE_BASE_ENDIAN_H_
