#include "engine/format/qcow2/create.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/file_storage.h"
#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;
using testing::HasSubstr;
using Preallocation = CreateOptions::Preallocation;

constexpr uint64_t kMiB = 1 << 20;

// The image as a file, judged clean by qemu-img; returns its path.
std::string CreatedAndJudged(const CreateOptions& options) {
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(Create(*file, options), absl::OkStatus());
  const std::string path = TemporaryPath("created.qcow2");
  SaveFile(*file, path);
  EXPECT_THAT(RunToolOrFail({"qemu-img", "check", "-f", "qcow2", path}),
              HasSubstr("No errors were found"));
  return path;
}

#define SKIP_WITHOUT_QEMU_IMG() \
  if (!HasTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed"

TEST(Create, IsCleanForEveryClusterSizeAndRefcountWidth) {
  SKIP_WITHOUT_QEMU_IMG();
  for (int cluster_bits : {9, 12, 16, 21}) {
    for (uint32_t refcount_bits : {1, 2, 4, 8, 16, 32, 64}) {
      SCOPED_TRACE(absl::StrCat("cluster bits ", cluster_bits, ", refcount bits ", refcount_bits));
      CreateOptions options;
      options.size_bytes = 3 * kMiB + 512;
      options.cluster_size_bytes = uint64_t{1} << cluster_bits;
      options.refcount_bits = refcount_bits;
      const std::string info = RunToolOrFail({"qemu-img", "info", CreatedAndJudged(options)});
      EXPECT_THAT(info, HasSubstr("virtual size: 3 MiB (3146240 bytes)"));
      EXPECT_THAT(info, HasSubstr(absl::StrCat("cluster_size: ", options.cluster_size_bytes)));
      EXPECT_THAT(info, HasSubstr(absl::StrCat("refcount bits: ", refcount_bits, "\n")));
    }
  }
}

TEST(Create, SaysInTheHeaderWhatWasAskedFor) {
  SKIP_WITHOUT_QEMU_IMG();
  CreateOptions options;
  options.size_bytes = kMiB;
  options.lazy_refcounts = true;
  options.compression_type = CompressionType::kZstd;
  options.backing_file = "../some where/b\xc3\xa4se.raw";
  options.backing_format = "raw";
  auto file = std::make_shared<MemoryStorage>(0);
  ASSERT_EQ(Create(*file, options), absl::OkStatus());
  const std::string path = TemporaryPath("header.qcow2");
  SaveFile(*file, path);
  const std::string info = RunToolOrFail({"qemu-img", "info", path});
  EXPECT_THAT(info, HasSubstr("compat: 1.1"));
  EXPECT_THAT(info, HasSubstr("lazy refcounts: true"));
  EXPECT_THAT(info, HasSubstr("compression type: zstd"));
  EXPECT_THAT(info, HasSubstr("backing file: ../some where/b\xc3\xa4se.raw"));
  EXPECT_THAT(info, HasSubstr("backing file format: raw"));
}

TEST(Create, MakesVersion2Images) {
  SKIP_WITHOUT_QEMU_IMG();
  CreateOptions options;
  options.size_bytes = 10 * kMiB;
  options.version = 2;
  EXPECT_THAT(RunToolOrFail({"qemu-img", "info", CreatedAndJudged(options)}),
              HasSubstr("compat: 0.10"));
}

TEST(Create, IsAsSmallAsItCanBe) {
  CreateOptions options;
  options.size_bytes = 1024 * kMiB;
  MemoryStorage file(0);
  ASSERT_EQ(Create(file, options), absl::OkStatus());
  // Header, refcount table, refcount block, L1 table.
  EXPECT_EQ(file.size_bytes(), 4 * options.cluster_size_bytes);
}

TEST(Create, ReplacesWhateverTheFileHeld) {
  SKIP_WITHOUT_QEMU_IMG();
  CreateOptions options;
  options.size_bytes = kMiB;
  auto file = MemoryStorage::Of(std::string(5 * kMiB, '\xff'));
  ASSERT_EQ(Create(*file, options), absl::OkStatus());
  EXPECT_EQ(file->size_bytes(), 4 * options.cluster_size_bytes);
  const std::string path = TemporaryPath("replaced.qcow2");
  SaveFile(*file, path);
  EXPECT_THAT(RunToolOrFail({"qemu-img", "check", path}), HasSubstr("No errors were found"));
}

TEST(Create, MakesADiskOfNoBytes) {
  SKIP_WITHOUT_QEMU_IMG();
  EXPECT_THAT(RunToolOrFail({"qemu-img", "info", CreatedAndJudged({})}),
              HasSubstr("virtual size: 0 B"));
}

class PreallocatedImage
    : public testing::TestWithParam<std::tuple<Preallocation, uint64_t, uint32_t>> {};

INSTANTIATE_TEST_SUITE_P(Create, PreallocatedImage,
                         testing::Combine(testing::Values(Preallocation::kMetadata,
                                                          Preallocation::kFalloc,
                                                          Preallocation::kFull),
                                          testing::Values(512, 4096, 65536),
                                          testing::Values(1, 16, 64)));

TEST_P(PreallocatedImage, IsCleanAndMapsEveryCluster) {
  SKIP_WITHOUT_QEMU_IMG();
  CreateOptions options;
  options.size_bytes = 5 * kMiB + 512;
  std::tie(options.preallocation, options.cluster_size_bytes, options.refcount_bits) = GetParam();
  const std::string path = CreatedAndJudged(options);
  const uint64_t clusters =
      (options.size_bytes + options.cluster_size_bytes - 1) / options.cluster_size_bytes;
  EXPECT_THAT(RunToolOrFail({"qemu-img", "check", path}),
              HasSubstr(absl::StrCat(clusters, "/", clusters, " = 100.00% allocated")));
  EXPECT_THAT(
      RunToolOrFail({"qemu-io", "-c", absl::StrCat("read -P 0 0 ", options.size_bytes), path}),
      HasSubstr(absl::StrCat("read ", options.size_bytes)));
}

TEST(Create, ReservesSpaceOnlyIfAsked) {
  for (const auto& [preallocation, reserves] :
       {std::make_pair(Preallocation::kOff, false), std::make_pair(Preallocation::kMetadata, false),
        std::make_pair(Preallocation::kFalloc, true), std::make_pair(Preallocation::kFull, true)}) {
    const std::string path = TemporaryPath("reserved.qcow2");
    ASSERT_EQ(storage::CreateFile(path, 0, storage::Preallocation::kOff), absl::OkStatus());
    const auto file = storage::OpenFile(path, {});
    ASSERT_EQ(file.status(), absl::OkStatus());
    CreateOptions options;
    options.size_bytes = 8 * kMiB;
    options.preallocation = preallocation;
    ASSERT_EQ(Create(**file, options), absl::OkStatus());
    EXPECT_EQ(*(*file)->AllocatedBytes() >= 8 * kMiB, reserves);
    unlink(path.c_str());
  }
}

TEST(Create, GivesHugeDisksTheirTable) {
  SKIP_WITHOUT_QEMU_IMG();
  CreateOptions options;
  options.size_bytes = uint64_t{1} << 50;
  options.cluster_size_bytes = 2 * kMiB;
  EXPECT_THAT(RunToolOrFail({"qemu-img", "info", CreatedAndJudged(options)}),
              HasSubstr("virtual size: 1 PiB"));
  options.cluster_size_bytes = 65536;
  EXPECT_THAT(RunToolOrFail({"qemu-img", "info", CreatedAndJudged(options)}),
              HasSubstr("virtual size: 1 PiB"));
}

TEST(Create, AllowsExactlyWhatAnL1TableCanMap) {
  for (int cluster_bits : {9, 16, 21}) {
    CreateOptions options;
    options.cluster_size_bytes = uint64_t{1} << cluster_bits;
    // 32 MiB of table, eight bytes an entry, each for a cluster of eight-byte entries.
    options.size_bytes = (uint64_t{32} << 20) / 8 << (cluster_bits - 3 + cluster_bits);
    EXPECT_EQ(CheckCreateOptions(options), absl::OkStatus()) << cluster_bits;
    options.size_bytes += 512;
    const absl::Status status = CheckCreateOptions(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(options.size_bytes)));
  }
}

struct Refusal {
  std::string name;
  CreateOptions options;
  Reason reason;
  std::vector<std::string> named;
};

class RefusedOptions : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedOptions, AreNamedAndLeaveTheFileAlone) {
  auto file = MemoryStorage::Of("old contents");
  const absl::Status status = Create(*file, GetParam().options);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailsOf(status)->reason, GetParam().reason) << status;
  for (const std::string& named : GetParam().named) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(named));
  }
  EXPECT_EQ(file->Contents(), "old contents");
}

std::vector<Refusal> Refusals() {
  const auto with = [](auto change) {
    CreateOptions options;
    options.size_bytes = kMiB;
    change(options);
    return options;
  };
  return {
      {"Size", with([](auto& o) { o.size_bytes = 1000; }), Reason::kInvalidField, {"1000", "512"}},
      {"ClusterTooSmall",
       with([](auto& o) { o.cluster_size_bytes = 256; }),
       Reason::kInvalidField,
       {"cluster-size 256"}},
      {"ClusterTooLarge",
       with([](auto& o) { o.cluster_size_bytes = 4 * kMiB; }),
       Reason::kInvalidField,
       {"cluster-size 4194304"}},
      {"ClusterOdd",
       with([](auto& o) { o.cluster_size_bytes = 65537; }),
       Reason::kInvalidField,
       {"65537"}},
      {"ClusterZero",
       with([](auto& o) { o.cluster_size_bytes = 0; }),
       Reason::kInvalidField,
       {"cluster-size 0"}},
      {"RefcountBits",
       with([](auto& o) { o.refcount_bits = 24; }),
       Reason::kInvalidField,
       {"refcount-bits 24"}},
      {"RefcountBitsTooMany",
       with([](auto& o) { o.refcount_bits = 128; }),
       Reason::kInvalidField,
       {"128"}},
      {"Version", with([](auto& o) { o.version = 4; }), Reason::kInvalidField, {"version 4"}},
      {"Version2Refcounts",
       with([](auto& o) { o.version = 2, o.refcount_bits = 8; }),
       Reason::kInvalidCombination,
       {"v2", "refcount-bits 8"}},
      {"Version2Lazy",
       with([](auto& o) { o.version = 2, o.lazy_refcounts = true; }),
       Reason::kInvalidCombination,
       {"v2", "lazy-refcounts"}},
      {"Version2Zstd",
       with([](auto& o) { o.version = 2, o.compression_type = CompressionType::kZstd; }),
       Reason::kInvalidCombination,
       {"v2", "zstd"}},
      {"FormatWithoutFile",
       with([](auto& o) { o.backing_format = "raw"; }),
       Reason::kInvalidCombination,
       {"raw", "backing-file"}},
      {"BackingAndPreallocation",
       with([](auto& o) { o.backing_file = "b", o.preallocation = Preallocation::kFalloc; }),
       Reason::kInvalidCombination,
       {"backing-file b", "falloc"}},
      {"LongBackingName",
       with([](auto& o) { o.backing_file = std::string(1024, 'n'); }),
       Reason::kInvalidField,
       {"nnnn", "1023"}},
      {"DataFile",
       with([](auto& o) { o.data_file = "d"; }),
       Reason::kFeatureUnsupported,
       {"data-file"}},
      {"ExtendedL2",
       with([](auto& o) { o.extended_l2 = true; }),
       Reason::kFeatureUnsupported,
       {"extended-l2"}},
      {"Encrypted",
       with([](auto& o) { o.encrypt_format = "luks"; }),
       Reason::kFeatureUnsupported,
       {"encrypt"}},
      {"TooMuchToPreallocate",
       with([](auto& o) {
         o.size_bytes = uint64_t{100} << 30, o.cluster_size_bytes = 512, o.refcount_bits = 64,
         o.preallocation = Preallocation::kMetadata;
       }),
       Reason::kInvalidCombination,
       {"107374182400", "metadata"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Create, RefusedOptions, testing::ValuesIn(Refusals()),
                         [](const auto& info) { return info.param.name; });

TEST(Create, FitsItsHeaderIntoTheSmallestClusterOrSaysThatItDoesNot) {
  CreateOptions options;
  options.size_bytes = kMiB;
  options.cluster_size_bytes = 512;
  options.backing_file = std::string(300, 'n');
  options.backing_format = "qcow2";
  MemoryStorage file(0);
  ASSERT_EQ(Create(file, options), absl::OkStatus());
  EXPECT_EQ(ReadHeader(file)->backing_file, options.backing_file);
  options.backing_file = std::string(512, 'n');
  EXPECT_EQ(Create(file, options).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tidemark::qcow2
