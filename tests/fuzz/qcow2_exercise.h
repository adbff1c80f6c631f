// What a test does with a hostile qcow2 image: everything, within bounds. Tests only; one thread.
#ifndef TESTS_FUZZ_QCOW2_EXERCISE_H_
#define TESTS_FUZZ_QCOW2_EXERCISE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::qcow2 {

inline constexpr uint64_t kMiB = 1 << 20;

// Opens, reads, maps, checks and writes copies of the image; `seed` chooses where. Answers are as
// good as errors. INTERNAL says what no image may make the format do: answer what was not asked, or
// ask too much of the file, or of memory.
absl::Status Exercise(const storage::MemoryStorage& contents, uint64_t seed);

// Puts a big-endian number into the file.
void Store64(storage::MemoryStorage& file, uint64_t offset_bytes, uint64_t value);
void Store32(storage::MemoryStorage& file, uint64_t offset_bytes, uint32_t value);

}  // namespace tidemark::qcow2

#endif  // TESTS_FUZZ_QCOW2_EXERCISE_H_
