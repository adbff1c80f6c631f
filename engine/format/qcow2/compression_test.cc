#include "engine/format/qcow2/compression.h"

#include <random>
#include <string>

#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr size_t kClusterSizeBytes = 65536;

std::vector<std::byte> Filled(size_t size_bytes, int value) {
  return std::vector<std::byte>(size_bytes, static_cast<std::byte>(value));
}

std::vector<std::byte> Random(size_t size_bytes, uint32_t seed, int values = 256) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % values);
  return bytes;
}

class Compression : public testing::TestWithParam<CompressionType> {};

INSTANTIATE_TEST_SUITE_P(AllTypes, Compression,
                         testing::Values(CompressionType::kZlib, CompressionType::kZstd),
                         [](const auto& info) {
                           return info.param == CompressionType::kZlib ? "Zlib" : "Zstd";
                         });

TEST_P(Compression, GivesBackWhatWasStoredInEveryClusterSize) {
  for (int bits = 9; bits <= 21; ++bits) {
    const std::vector<std::byte> cluster = Random(size_t{1} << bits, bits, 4);
    const auto compressed = Compress(GetParam(), cluster);
    ASSERT_TRUE(compressed.has_value()) << bits;
    EXPECT_LT(compressed->size(), cluster.size());
    std::vector<std::byte> read = Filled(cluster.size(), 0xee);
    EXPECT_EQ(Decompress(GetParam(), *compressed, absl::MakeSpan(read)), absl::OkStatus());
    EXPECT_EQ(read, cluster);
  }
}

TEST_P(Compression, IgnoresWhateverFollowsInTheLastSector) {
  const std::vector<std::byte> cluster = Random(kClusterSizeBytes, 1, 3);
  auto compressed = Compress(GetParam(), cluster);
  ASSERT_TRUE(compressed.has_value());
  for (int padding : {0x00, 0xff, 0x28}) {
    std::vector<std::byte> padded = *compressed;
    padded.resize(padded.size() + 511, static_cast<std::byte>(padding));
    std::vector<std::byte> read(cluster.size());
    EXPECT_EQ(Decompress(GetParam(), padded, absl::MakeSpan(read)), absl::OkStatus());
    EXPECT_EQ(read, cluster);
  }
}

TEST_P(Compression, DeclinesAClusterThatDoesNotShrink) {
  EXPECT_FALSE(Compress(GetParam(), Random(kClusterSizeBytes, 2)).has_value());
  EXPECT_FALSE(Compress(GetParam(), Random(512, 3)).has_value());
  EXPECT_FALSE(Compress(GetParam(), {}).has_value());
}

TEST_P(Compression, RefusesAStreamThatIsCutAnywhere) {
  const std::vector<std::byte> cluster = Random(4096, 4, 3);
  const auto compressed = Compress(GetParam(), cluster);
  ASSERT_TRUE(compressed.has_value());
  std::vector<std::byte> read(cluster.size());
  // A deflate stream's last bytes may be only its end mark, which a whole cluster does not need.
  for (size_t length = 0; length + 4 < compressed->size(); ++length) {
    const auto status = Decompress(GetParam(), storage::ConstBytes(*compressed).subspan(0, length),
                                   absl::MakeSpan(read));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << length;
  }
}

TEST_P(Compression, RefusesAStreamThatMakesLessThanACluster) {
  const auto compressed = Compress(GetParam(), Filled(4096, 7));
  ASSERT_TRUE(compressed.has_value());
  std::vector<std::byte> read(8192);
  EXPECT_EQ(Decompress(GetParam(), *compressed, absl::MakeSpan(read)).code(),
            absl::StatusCode::kDataLoss);
}

TEST_P(Compression, NeverWritesPastTheCluster) {
  const auto compressed = Compress(GetParam(), Random(65536, 6, 2));
  ASSERT_TRUE(compressed.has_value());
  std::vector<std::byte> read = Filled(1024, 0xee);
  // May fail or give the beginning; the second half must stay as it was.
  Decompress(GetParam(), *compressed, absl::MakeSpan(read).subspan(0, 512)).IgnoreError();
  EXPECT_EQ(std::vector<std::byte>(read.begin() + 512, read.end()), Filled(512, 0xee));
}

TEST_P(Compression, SurvivesAnyDamage) {
  const std::vector<std::byte> cluster = Random(4096, 5, 3);
  const auto compressed = Compress(GetParam(), cluster);
  ASSERT_TRUE(compressed.has_value());
  std::mt19937 random(7);
  std::vector<std::byte> read(cluster.size());
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> damaged = *compressed;
    for (uint32_t flips = 1 + random() % 4; flips > 0; --flips) {
      damaged[random() % damaged.size()] ^= static_cast<std::byte>(1 << (random() % 8));
    }
    if (!Decompress(GetParam(), damaged, absl::MakeSpan(read)).ok()) ++refused;
  }
  EXPECT_GT(refused, 0);
  // The thread's context is as good as new after all that.
  EXPECT_EQ(Decompress(GetParam(), *compressed, absl::MakeSpan(read)), absl::OkStatus());
  EXPECT_EQ(read, cluster);
}

TEST(CompressionTypes, AnUnknownTypeIsRefusedByNumber) {
  std::vector<std::byte> read(512);
  const auto status = Decompress(static_cast<CompressionType>(9), {}, absl::MakeSpan(read));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("9"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace tidemark::qcow2
