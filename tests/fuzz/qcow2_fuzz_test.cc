// Qcow2 images damaged at random: whatever the bytes are, opening, reading, mapping, checking and
// writing give an answer or an error, with bounded work and memory.
//
// Deterministic: image number N is always the same. FUZZ_SEED=N runs that one alone,
// FUZZ_ITERATIONS=N runs more of them.
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/format/qcow2/bitmaps.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "gtest/gtest.h"
#include "tests/fuzz/qcow2_exercise.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr int kIterationsDefault = 400;

// A number that somebody may have forgotten to think of.
uint64_t InterestingNumber(const MemoryStorage& file, std::mt19937_64& random) {
  const uint64_t cluster = random() % (file.size_bytes() / 512 + 1) * 512;
  switch (random() % 12) {
    case 0:
      return 0;
    case 1:
      return random() % 16;
    case 2:
      return ~uint64_t{0} - random() % 4;
    case 3:
      return uint64_t{1} << random() % 64;
    case 4:
      return (uint64_t{1} << random() % 64) - 1;
    case 5:
      return (uint64_t{1} << 56) - 512 * (random() % 4);
    case 6:
      return kEntryCompressed | random();
    case 7:
      return kEntryCopied | cluster;
    case 8:
      return cluster | kEntryZero;
    case 9:
      return random();
    default:
      return cluster;
  }
}

void Damage(MemoryStorage& file, std::mt19937_64& random) {
  if (file.size_bytes() < 1024) return;
  // Half of all damage is where it hurts most.
  const bool in_header = random() % 2 == 0;
  const uint64_t span = in_header ? 512 : file.size_bytes();
  const uint64_t at = random() % (span - 8);
  switch (random() % 5) {
    case 0: {
      const std::byte byte{static_cast<uint8_t>(random())};
      ASSERT_TRUE(file.Write(at, {&byte, 1}, {}).ok());
      break;
    }
    case 1:
      Store32(file, at & ~uint64_t{3}, InterestingNumber(file, random));
      break;
    case 2: {
      // One table copied over another.
      const std::string piece =
          file.Contents({random() % (file.size_bytes() - 512) & ~511ull, 512});
      ASSERT_TRUE(file.Write(at & ~uint64_t{511},
                             {reinterpret_cast<const std::byte*>(piece.data()), piece.size()}, {})
                      .ok());
      break;
    }
    case 3:
      if (random() % 8 == 0) {
        ASSERT_TRUE(file.Resize(random() % file.size_bytes()).ok());
        break;
      }
      [[fallthrough]];
    default:
      Store64(file, at & ~uint64_t{7}, InterestingNumber(file, random));
  }
}

void ExerciseDamaged(uint64_t seed) {
  SCOPED_TRACE(absl::StrCat("FUZZ_SEED=", seed));
  std::mt19937_64 random(seed);
  static const std::vector<GoldenImage> images = GoldenImages();
  const auto file = LoadGolden(images[random() % images.size()].name);
  for (uint64_t count = 1 + random() % 4; count > 0; --count) Damage(*file, random);
  if (random() % 4 == 0 && file->size_bytes() > header_field::kVersion3LengthMin) {
    Store64(*file, header_field::kIncompatibleFeatures, incompatible_feature::kDirty);
  }
  const absl::Status status = Exercise(*file, seed);
  EXPECT_TRUE(status.ok()) << status;
}

uint64_t NumberFromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  uint64_t number = otherwise;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : otherwise;
}

TEST(HostileImages, DamagedAtRandomGiveAnswersOrErrors) {
  if (std::getenv("FUZZ_SEED") != nullptr) {
    return ExerciseDamaged(NumberFromEnvironment("FUZZ_SEED", 0));
  }
  const uint64_t iterations = NumberFromEnvironment("FUZZ_ITERATIONS", kIterationsDefault);
  for (uint64_t seed = 0; seed < iterations && !testing::Test::HasFailure(); ++seed) {
    ExerciseDamaged(seed);
  }
}

// What the guest sees; absent if something cannot be read.
absl::optional<std::string> GuestView(const MemoryStorage& file) {
  const auto image = Image::Open(file.Copy(), {.read_only = true});
  if (!image.ok() || !LoadBitmaps(**image).ok() || (*image)->size_bytes() > 16 * kMiB) {
    return absl::nullopt;
  }
  std::string view((*image)->size_bytes(), '\0');
  const storage::Bytes bytes(reinterpret_cast<std::byte*>(view.data()), view.size());
  if (!(*image)->Read(0, bytes).ok()) return absl::nullopt;
  return view;
}

TEST(HostileImages, ThatQemuReadsAreReadAlike) {
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const std::string damaged = TemporaryPath("damaged.qcow2");
  const std::string raw = TemporaryPath("damaged.raw");
  int compared = 0;
  for (uint64_t seed = 0; seed < 120 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    const char* const names[] = {"v2",        "cluster-512", "compressed-zlib", "compressed-zstd",
                                 "snapshots", "bitmaps"};
    const auto file = LoadGolden(names[seed % 6]);
    for (int count = 0; count < 3; ++count) Damage(*file, random);
    const absl::optional<std::string> ours = GuestView(*file);
    SaveFile(*file, damaged);
    const ToolResult judged =
        RunTool({"qemu-img", "convert", "-f", "qcow2", "-O", "raw", damaged, raw});
    // Either may refuse what the other still takes: entries past the end of the file, say.
    if (judged.exit_code != 0 || !ours) continue;
    ++compared;
    const auto theirs = LoadFile(raw);
    EXPECT_TRUE(theirs->Contents() == *ours);
  }
  EXPECT_GT(compared, 10);
  unlink(damaged.c_str());
  unlink(raw.c_str());
}

}  // namespace
}  // namespace tidemark::qcow2
