// One compressed cluster, in and out: the two algorithms of qcow2. Pure functions over bytes; any
// thread. What comes from an image is hostile: whatever the bytes are, the answer is a whole
// cluster or an error, in bounded time and memory.
#ifndef ENGINE_FORMAT_QCOW2_COMPRESSION_H_
#define ENGINE_FORMAT_QCOW2_COMPRESSION_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/format/qcow2/layout.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

// Fills all of `cluster` from what `Compress` or another qcow2 writer stored. `compressed` may be
// longer than was stored, since images keep that length in sectors: the rest is ignored. DATA_LOSS
// if it is broken, or does not make a whole cluster.
absl::Status Decompress(CompressionType type, storage::ConstBytes compressed,
                        storage::Bytes cluster);

// `cluster` in fewer bytes, by at least one; absent if it does not shrink: store it plain then.
absl::optional<std::vector<std::byte>> Compress(CompressionType type, storage::ConstBytes cluster);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_COMPRESSION_H_
