// Every bound of this package by name.
#ifndef ENGINE_BITMAP_LIMITS_H_
#define ENGINE_BITMAP_LIMITS_H_

#include <cstdint>

namespace tidemark::bitmap {

inline constexpr uint64_t kGranularityBytesMin = 512;
inline constexpr uint64_t kGranularityBytesMax = uint64_t{1} << 31;

// Granules of one bitmap: one GiB of memory if all are touched.
inline constexpr uint64_t kGranuleCountMax = uint64_t{1} << 33;

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_LIMITS_H_
