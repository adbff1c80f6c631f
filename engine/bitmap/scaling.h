// ORs bits of one granularity into bits of another: by words where they are mixed, and by
// stretches where they are uniform. Any thread, as the bits.
#ifndef ENGINE_BITMAP_SCALING_H_
#define ENGINE_BITMAP_SCALING_H_

#include "engine/bitmap/sparse_bits.h"

namespace tidemark::bitmap {

// 2^shift bits of `source` are one of `target`, which is set if any of them is.
void OrCoarser(const SparseBits& source, int shift, SparseBits* target);

// A bit of `source` is 2^shift bits of `target`.
void OrFiner(const SparseBits& source, int shift, SparseBits* target);

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_SCALING_H_
