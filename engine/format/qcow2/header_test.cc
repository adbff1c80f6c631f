#include "engine/format/qcow2/header.h"

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kFileBytes = 16 << 20;

Header GoodHeader() {
  Header header;
  header.size_bytes = 1 << 30;
  header.l1_entries = 2;
  header.l1_offset_bytes = 3 << 16;
  header.refcount_table_offset_bytes = 1 << 16;
  header.refcount_table_clusters = 1;
  header.backing_file = "base.qcow2";
  header.backing_format = "qcow2";
  header.extensions = {FeatureNameTable(), {0x12345678, "unknown"}};
  return header;
}

std::vector<std::byte> Bytes(const Header& header) {
  auto bytes = SerializeHeader(header);
  EXPECT_EQ(bytes.status(), absl::OkStatus());
  return *bytes;
}

TEST(Header, WhatIsWrittenIsReadBack) {
  for (const uint32_t version : {2, 3}) {
    Header header = GoodHeader();
    header.version = version;
    if (version == 3) header.autoclear_features = autoclear_feature::kBitmaps;
    const auto parsed = ParseHeader(Bytes(header), kFileBytes);
    ASSERT_EQ(parsed.status(), absl::OkStatus());
    EXPECT_EQ(parsed->version, version);
    EXPECT_EQ(parsed->size_bytes, header.size_bytes);
    EXPECT_EQ(parsed->l1_offset_bytes, header.l1_offset_bytes);
    EXPECT_EQ(parsed->autoclear_features, header.autoclear_features);
    EXPECT_EQ(parsed->backing_file, "base.qcow2");
    EXPECT_EQ(parsed->backing_format, "qcow2");
    ASSERT_EQ(parsed->extensions.size(), 2u);
    EXPECT_EQ(parsed->extensions[1].data, "unknown");
    EXPECT_EQ(Bytes(*parsed), Bytes(header));
  }
}

TEST(Header, FieldsOfTheFutureAreKept) {
  Header header = GoodHeader();
  header.unknown_fields = "futurefu";
  const auto parsed = ParseHeader(Bytes(header), kFileBytes);
  ASSERT_EQ(parsed.status(), absl::OkStatus());
  EXPECT_EQ(parsed->unknown_fields, "futurefu");
  EXPECT_EQ(parsed->extensions.size(), 2u);
}

TEST(Header, ThatDoesNotFitIsNotWritten) {
  Header header = GoodHeader();
  header.geometry.cluster_bits = 9;
  EXPECT_EQ(DetailsOf(SerializeHeader(header).status())->reason, Reason::kInvalidField);
}

TEST(Header, UnknownFeatureIsNamedAsTheImageNamesIt) {
  Header header = GoodHeader();
  header.incompatible_features = uint64_t{1} << 9;
  std::string name(48, '\0');
  name[1] = 9;
  name.replace(2, 10, "holograms!");
  header.SetExtension(extension_type::kFeatureNames, name);
  const absl::Status status = ParseHeader(Bytes(header), kFileBytes).status();
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kFeatureUnsupported);
  EXPECT_TRUE(absl::StrContains(status.message(), "holograms!")) << status;
}

struct Spoiled {
  std::string what;
  size_t offset;
  uint64_t value;
  int width;
  Reason reason;
};

class HeaderRefusal : public testing::TestWithParam<Spoiled> {};

TEST_P(HeaderRefusal, NamesTheReason) {
  const Spoiled& spoiled = GetParam();
  std::vector<std::byte> bytes = Bytes(GoodHeader());
  if (spoiled.width == 4) {
    StoreBigEndian(bytes.data() + spoiled.offset, static_cast<uint32_t>(spoiled.value));
  } else {
    StoreBigEndian(bytes.data() + spoiled.offset, spoiled.value);
  }
  const absl::Status status = ParseHeader(bytes, kFileBytes).status();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailsOf(status)->reason, spoiled.reason) << status;
}

constexpr auto kCorrupt = Reason::kImageCorrupt;
constexpr auto kUnsupported = Reason::kFeatureUnsupported;

INSTANTIATE_TEST_SUITE_P(
    Fields, HeaderRefusal,
    testing::Values(
        Spoiled{"NotQcow2", 0, 0x12345678, 4, Reason::kImageFormat},
        Spoiled{"Version1", 4, 1, 4, kUnsupported}, Spoiled{"Version4", 4, 4, 4, kUnsupported},
        Spoiled{"TinyClusters", 20, 8, 4, kCorrupt}, Spoiled{"HugeClusters", 20, 22, 4, kCorrupt},
        Spoiled{"WildClusters", 20, 0xffffffff, 4, kCorrupt},
        Spoiled{"Encryption", 32, 1, 4, kUnsupported}, Spoiled{"Luks", 32, 2, 4, kUnsupported},
        Spoiled{"SmallL1", 36, 1, 4, kCorrupt}, Spoiled{"GiantL1", 36, 0xffffffff, 4, kCorrupt},
        Spoiled{"UnalignedL1", 40, 0x30001, 8, kCorrupt}, Spoiled{"L1AtZero", 40, 0, 8, kCorrupt},
        Spoiled{"L1PastTheEnd", 40, uint64_t{1} << 40, 8, kCorrupt},
        Spoiled{"L1Wraps", 40, 0xffffffffffff0000, 8, kCorrupt},
        Spoiled{"L1OnRefcounts", 40, 0x10000, 8, kCorrupt},
        Spoiled{"HugeDisk", 24, ~uint64_t{0}, 8, kCorrupt},
        Spoiled{"NoRefcounts", 56, 0, 4, kCorrupt},
        Spoiled{"GiantRefcountTable", 56, 0xffffffff, 4, kCorrupt},
        Spoiled{"UnalignedRefcountTable", 48, 0x10200, 8, kCorrupt},
        Spoiled{"ManySnapshots", 60, 65537, 4, kCorrupt},
        Spoiled{"SnapshotsAtZero", 60, 1, 4, kCorrupt}, Spoiled{"DataFile", 72, 4, 8, kUnsupported},
        Spoiled{"ExtendedL2", 72, 16, 8, kUnsupported},
        Spoiled{"UnknownFeature", 72, uint64_t{1} << 63, 8, kUnsupported},
        Spoiled{"CompressionBitWithoutType", 72, 8, 8, kCorrupt},
        Spoiled{"WideRefcounts", 96, 7, 4, kCorrupt}, Spoiled{"ShortHeader", 100, 96, 4, kCorrupt},
        Spoiled{"LongHeader", 100, 1 << 20, 4, kCorrupt},
        Spoiled{"ExtensionTooLong", 116, 0xffffffff, 4, kCorrupt},
        Spoiled{"BackingFileFarAway", 8, uint64_t{1} << 32, 8, kCorrupt},
        Spoiled{"BackingFileWraps", 8, ~uint64_t{0}, 8, kCorrupt},
        Spoiled{"BackingFileInTheHeader", 8, 16, 8, kCorrupt},
        Spoiled{"BackingFileTooLong", 16, 1024, 4, kCorrupt}),
    [](const auto& info) { return info.param.what; });

TEST(Header, AnyPrefixGivesAnAnswer) {
  const std::vector<std::byte> bytes = Bytes(GoodHeader());
  for (size_t length = 0; length < 200; ++length) {
    EXPECT_FALSE(ParseHeader(storage::ConstBytes(bytes).first(length), length).ok());
  }
}

}  // namespace
}  // namespace tidemark::qcow2
