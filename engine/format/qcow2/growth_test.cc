// Refcount tables that grow, runs that cross refcount blocks, and what is freed on the way.

#include <memory>
#include <string>

#include "engine/format/qcow2/check.h"
#include "engine/format/qcow2/create.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/crashing_storage.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

using storage::MemoryStorage;

constexpr uint64_t kMiB = 1 << 20;

// The geometry whose refcount structures fill fastest: 2 MiB to a table cluster.
std::shared_ptr<MemoryStorage> MakeNarrowFile(uint64_t size_bytes) {
  auto file = std::make_shared<MemoryStorage>(0);
  EXPECT_EQ(
      Create(*file, {.size_bytes = size_bytes, .cluster_size_bytes = 512, .refcount_bits = 64}),
      absl::OkStatus());
  return file;
}

absl::Status WriteRun(Image& image, Range range, char byte) {
  const std::string data(range.length_bytes, byte);
  return image.Write(range.offset_bytes,
                     {reinterpret_cast<const std::byte*>(data.data()), data.size()});
}

void ExpectNoCorruption(MemoryStorage& file, bool leaks_allowed) {
  const auto check = Check(file);
  ASSERT_EQ(check.status(), absl::OkStatus());
  EXPECT_EQ(check->corruptions, 0u) << testing::PrintToString(check->findings);
  if (leaks_allowed) return;
  EXPECT_EQ(check->leaks, 0u) << testing::PrintToString(check->findings);
}

TEST(RefcountGrowth, TableGrowsAsTheFileDoes) {
  auto file = MakeNarrowFile(16 * kMiB);
  const uint32_t table_before = ReadHeader(*file)->refcount_table_clusters;
  auto image = *Image::Open(file, {});
  for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
    ASSERT_EQ(WriteRun(*image, {at, kMiB}, static_cast<char>('a' + at / kMiB)), absl::OkStatus());
    if (at % (3 * kMiB) == 0) {
      ASSERT_EQ(image->Flush(), absl::OkStatus());
    }
  }
  ASSERT_EQ(image->Close(), absl::OkStatus());
  EXPECT_GT(ReadHeader(*file)->refcount_table_clusters, table_before);
  ExpectNoCorruption(*file, false);
  if (HasTool("qemu-img")) {
    const std::string path = TemporaryPath("grown.qcow2");
    SaveFile(*file, path);
    const ToolResult result = RunTool({"qemu-img", "check", "-f", "qcow2", path});
    EXPECT_EQ(result.exit_code, 0) << result.output;
  }
  image = *Image::Open(file, {.read_only = true});
  std::byte byte[1];
  for (uint64_t at = 0; at < 16 * kMiB; at += kMiB) {
    ASSERT_EQ(image->Read(at + 777, byte), absl::OkStatus());
    EXPECT_EQ(byte[0], static_cast<std::byte>('a' + at / kMiB));
  }
}

TEST(RefcountGrowth, AdjacentClustersMayNeedManyNewBlocks) {
  auto file = MakeNarrowFile(kMiB);
  auto image = *Image::Open(file, {});
  for (const uint64_t count : {1, 2, 63, 64, 65, 1000, 20000}) {
    const auto first = image->AllocateClusters(count);
    ASSERT_EQ(first.status(), absl::OkStatus());
    for (const uint64_t i : {uint64_t{0}, count / 2, count - 1}) {
      EXPECT_EQ(*image->Refcount(*first + i * 512), 1u);
    }
    ASSERT_EQ(image->FreeClusters({*first, count * 512}), absl::OkStatus());
    EXPECT_EQ(*image->Refcount(*first), 0u);
  }
  ASSERT_EQ(image->Close(), absl::OkStatus());
  ExpectNoCorruption(*file, false);
}

TEST(RefcountGrowth, FreedRunsAreFoundAgain) {
  auto file = MakeNarrowFile(kMiB);
  auto image = *Image::Open(file, {});
  const uint64_t first = *image->AllocateClusters(40);
  const uint64_t second = *image->AllocateClusters(40);
  ASSERT_EQ(image->FreeClusters({first, 40 * 512}), absl::OkStatus());
  EXPECT_EQ(*image->AllocateClusters(40), first);
  ASSERT_EQ(image->FreeClusters({first, 40 * 512}), absl::OkStatus());
  ASSERT_EQ(image->FreeClusters({second, 40 * 512}), absl::OkStatus());
}

TEST(RefcountGrowth, SurvivesAnErrorOfEveryRequest) {
  // Few blocks of counts fit in the cache: while the new ones are made, others are read and
  // written.
  constexpr uint64_t kClusterBytes = 2 * kMiB;
  constexpr uint64_t kClusters = 5 * kClusterBytes / 8;
  int failed = 0;
  for (int passed = 0; passed == failed; ++passed) {
    auto memory = std::make_shared<MemoryStorage>(0);
    ASSERT_EQ(
        Create(*memory,
               {.size_bytes = kMiB, .cluster_size_bytes = kClusterBytes, .refcount_bits = 64}),
        absl::OkStatus());
    auto file = std::make_shared<storage::FailingStorage>(memory);
    auto image = *Image::Open(file, {});
    file->AddRule({.status = absl::DataLossError("once"), .pass_count = passed, .fail_count = 1});
    failed += !image->AllocateClusters(kClusters).ok();
    file->ClearRules();
    const auto second = image->AllocateClusters(3);
    ASSERT_EQ(second.status(), absl::OkStatus()) << "request " << passed << " failed";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(*image->Refcount(*second + i * kClusterBytes), 1u);
    ASSERT_EQ(WriteRun(*image, {0, 64 << 10}, 'x'), absl::OkStatus());
    ASSERT_EQ(image->Close(), absl::OkStatus());
    ExpectNoCorruption(*memory, true);
  }
  EXPECT_GT(failed, 3);
}

TEST(RefcountGrowth, SurvivesACrashAtEveryMoment) {
  const auto initial = MakeNarrowFile(3 * kMiB);
  int changes = 0;
  for (int fail_from = -1; fail_from < changes; fail_from += 1 + changes / 40) {
    auto* const disk = new storage::CrashingStorage(*initial);
    const std::shared_ptr<storage::Storage> file(disk);
    auto image = *Image::Open(file, {});
    disk->set_fail_from(fail_from);
    // Nothing else than refcounts: 3 MiB of clusters at once, more than the first table can count.
    auto first = image->AllocateClusters(6144);
    absl::Status status = first.status();
    if (status.ok()) status = image->Flush();
    if (status.ok()) status = WriteRun(*image, {0, 64 << 10}, 'x');
    if (status.ok()) status = image->Flush();
    if (status.ok()) status = image->FreeClusters({*first, 6144 * 512});
    if (status.ok()) status = image->Close();
    EXPECT_EQ(status.ok(), fail_from < 0) << status;
    if (fail_from == -1) changes = disk->change_count();
    for (uint64_t seed = 0; seed < 4; ++seed) ExpectNoCorruption(*disk->Crash(seed), true);
    ExpectNoCorruption(*disk->CrashLosingAll(), true);
    ExpectNoCorruption(*disk->CrashLosingNothing(), true);
    ASSERT_FALSE(testing::Test::HasFailure()) << "power fails at change " << fail_from;
  }
  EXPECT_GT(changes, 10);
}

}  // namespace
}  // namespace tidemark::qcow2
