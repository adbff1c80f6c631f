// Images that QEMU makes, read and changed by us; what we leave, read by QEMU.

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/testing/golden.h"
#include "engine/format/qcow2/testing/qemu_tools.h"
#include "engine/storage/file_storage.h"
#include "gtest/gtest.h"

namespace tidemark::qcow2 {
namespace {

std::unique_ptr<Image> OpenPath(const std::string& path, OpenOptions options = {}) {
  auto file = storage::OpenFile(path, {.read_only = options.read_only});
  EXPECT_EQ(file.status(), absl::OkStatus());
  auto image = Image::Open(*file, options);
  EXPECT_EQ(image.status(), absl::OkStatus());
  return *std::move(image);
}

std::string Contents(storage::Storage& disk) {
  std::string contents(disk.size_bytes(), '?');
  EXPECT_EQ(disk.Read(0, {reinterpret_cast<std::byte*>(contents.data()), contents.size()}),
            absl::OkStatus());
  return contents;
}

void Write(Image& image, uint64_t offset, const std::string& data) {
  ASSERT_EQ(image.Write(offset, {reinterpret_cast<const std::byte*>(data.data()), data.size()}),
            absl::OkStatus());
}

// What QEMU reads from the image.
std::string ContentsByQemu(const std::string& path) {
  const std::string raw = TemporaryPath("by_qemu.raw");
  RunToolOrFail({"qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw});
  return LoadFile(raw)->Contents();
}

void ExpectClean(const std::string& path) {
  const ToolResult result = RunTool({"qemu-img", "check", "-f", "qcow2", path});
  EXPECT_EQ(result.exit_code, 0) << result.output;
}

void QemuIo(const std::string& path, const std::vector<std::string>& commands) {
  std::vector<std::string> command = {"qemu-io", "-f", "qcow2"};
  for (const std::string& line : commands) {
    command.push_back("-c");
    command.push_back(line);
  }
  command.push_back(path);
  RunToolOrFail(command);
}

class Interop : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasTool("qemu-img") || !HasTool("qemu-io")) GTEST_SKIP() << "QEMU is not installed";
  }
};

TEST_F(Interop, GoldenImagesReadAsQemuReadsThem) {
  for (const GoldenImage& golden : GoldenImages()) {
    SCOPED_TRACE(golden.name);
    auto image = Image::Open(LoadGolden(golden.name), {.read_only = true});
    // Bitmaps are judged by who loads them.
    const bool only_bitmaps_are_bad = absl::StartsWith(golden.name, "bad-bitmap");
    EXPECT_EQ(image.ok(), golden.opens || only_bitmaps_are_bad) << image.status();
    if (!image.ok() || !golden.opens || golden.corruptions > 0) continue;
    EXPECT_EQ((*image)->size_bytes(), golden.virtual_bytes);
    if (golden.virtual_bytes > (uint64_t{64} << 20) || !(*image)->header().backing_file.empty()) {
      continue;
    }
    EXPECT_EQ(Sha256(Contents(**image)), golden.contents_sha256);
  }
}

TEST_F(Interop, ImagesOfEveryShapeAreReadAndChanged) {
  struct Shape {
    std::string options;
    bool can_zero;
    bool preallocated = false;
  };
  const Shape shapes[] = {
      {"compat=v3,cluster_size=65536", true},
      {"compat=0.10,cluster_size=65536", false},
      {"compat=0.10,cluster_size=512", false},
      {"compat=v3,cluster_size=512,refcount_bits=64", true},
      {"compat=v3,cluster_size=4096,refcount_bits=1", true},
      {"compat=v3,cluster_size=4096,refcount_bits=2,compression_type=zstd", true},
      {"compat=v3,cluster_size=16384,refcount_bits=8", true},
      {"compat=v3,cluster_size=2097152,refcount_bits=32,compression_type=zstd", true},
      {"compat=v3,preallocation=metadata", true, true},
      {"compat=v3,lazy_refcounts=on", true},
  };
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.options);
    const std::string path = TemporaryPath("shape.qcow2");
    RunToolOrFail({"qemu-img", "create", "-f", "qcow2", "-o", shape.options, path, "8M"});
    const std::string c = shape.preallocated ? "" : "-c ";
    QemuIo(path, {"write -P 17 100k 300k", "write " + c + "-P 18 2M 2M",
                  "write " + c + "-P 19 6M 2M", shape.can_zero ? "write -z 120k 64k" : "read 0 512",
                  "discard 256k 64k", "write -P 20 7M 1k"});
    const std::string before = ContentsByQemu(path);
    auto image = OpenPath(path);
    ASSERT_TRUE(Contents(*image) == before);
    std::string expected = before;
    const auto change = [&](uint64_t offset, uint64_t length, char byte) {
      Write(*image, offset, std::string(length, byte));
      expected.replace(offset, length, length, byte);
    };
    change(110 << 10, 5000, 'a');            // Data.
    change((2 << 20) + 70000, 100000, 'b');  // Compressed.
    change(130 << 10, 600, 'c');             // Zeroes.
    change(5 << 20, 300000, 'd');            // Nothing.
    ASSERT_EQ(image->Close(), absl::OkStatus());
    image.reset();
    ExpectClean(path);
    EXPECT_TRUE(ContentsByQemu(path) == expected);
    QemuIo(path, {"write -P 33 1M 1M", "discard 0 8M"});
    ExpectClean(path);
  }
}

TEST_F(Interop, InternalSnapshotsStayAsTheyWere) {
  for (const std::string options : {"compat=v3,cluster_size=65536", "compat=0.10,cluster_size=512",
                                    "compat=v3,cluster_size=262144,refcount_bits=64"}) {
    SCOPED_TRACE(options);
    const std::string path = TemporaryPath("snapshots.qcow2");
    RunToolOrFail({"qemu-img", "create", "-f", "qcow2", "-o", options, path, "4M"});
    QemuIo(path, {"write -P 1 0 2M", "write -c -P 2 3M 512k"});
    RunToolOrFail({"qemu-img", "snapshot", "-c", "one", path});
    const std::string one = ContentsByQemu(path);
    auto image = OpenPath(path);
    Write(*image, 4000, std::string(200000, 'x'));
    Write(*image, (3 << 20) + 1000, "over compressed");
    ASSERT_EQ(image->Discard({1 << 20, 1 << 19}), absl::OkStatus());
    ASSERT_EQ(image->WriteZeroes({3 << 19, 1 << 18}), absl::OkStatus());
    EXPECT_EQ(DetailsOf(image->Resize(1 << 20))->reason, Reason::kFeatureUnsupported);
    if (image->header().version == 2) {
      EXPECT_EQ(DetailsOf(image->Resize(5 << 20))->reason, Reason::kFeatureUnsupported);
    } else {
      ASSERT_EQ(image->Resize(5 << 20), absl::OkStatus());
    }
    const std::string now = Contents(*image);
    ASSERT_EQ(image->Close(), absl::OkStatus());
    image.reset();
    ExpectClean(path);
    EXPECT_TRUE(ContentsByQemu(path) == now);
    RunToolOrFail({"qemu-img", "snapshot", "-a", "one", path});
    EXPECT_TRUE(ContentsByQemu(path) == one);
    ExpectClean(path);
    RunToolOrFail({"qemu-img", "snapshot", "-d", "one", path});
    ExpectClean(path);
  }
}

TEST_F(Interop, ImageLeftDirtyByLazyRefcountsIsPutRight) {
  for (const std::string options : {"cluster_size=65536", "cluster_size=512,refcount_bits=64"}) {
    SCOPED_TRACE(options);
    const std::string path = TemporaryPath("lazy.qcow2");
    RunToolOrFail(
        {"qemu-img", "create", "-f", "qcow2", "-o", "lazy_refcounts=on," + options, path, "4M"});
    QemuIo(path, {"write -P 1 0 256k", "write -c -P 9 3M 64k"});
    RunToolOrFail({"qemu-img", "snapshot", "-c", "one", path});
    RunToolOrFail({"qemu-img", "bitmap", "--add", path, "b0"});
    // Killed: the refcounts of what it wrote are not on disk.
    RunTool({"qemu-io", "-f", "qcow2", "-c", "write -P 7 64k 2M", "-c", "flush", "-c", "sigraise 9",
             path});
    ASSERT_NE(RunTool({"qemu-img", "check", "-f", "qcow2", path}).exit_code, 0);
    auto image = OpenPath(path, {.read_only = true});
    const std::string before = Contents(*image);
    EXPECT_EQ(before[64 << 10], 7);
    image = OpenPath(path);
    EXPECT_EQ(image->header().incompatible_features, 0u);
    EXPECT_TRUE(Contents(*image) == before);
    image->KeepAutoclearFeatures(autoclear_feature::kBitmaps);
    Write(*image, 100000, "after");
    ASSERT_EQ(image->Close(), absl::OkStatus());
    image.reset();
    ExpectClean(path);
  }
}

TEST_F(Interop, BackingChainsReadAlike) {
  const std::string base = TemporaryPath("base.qcow2");
  const std::string middle = TemporaryPath("middle.qcow2");
  const std::string top = TemporaryPath("top.qcow2");
  RunToolOrFail({"qemu-img", "create", "-f", "qcow2", base, "2M"});
  RunToolOrFail({"qemu-img", "create", "-f", "qcow2", "-b", base, "-F", "qcow2", middle, "3M"});
  RunToolOrFail({"qemu-img", "create", "-f", "qcow2", "-b", middle, "-F", "qcow2", top, "4M"});
  QemuIo(base, {"write -P 1 0 2M"});
  QemuIo(middle, {"write -P 2 1M 100k", "write -z 64k 64k", "write -P 3 2900k 50k"});
  auto image = OpenPath(top);
  auto middle_image = std::shared_ptr<Image>(OpenPath(middle, {.read_only = true}));
  middle_image->SetBacking(std::shared_ptr<Image>(OpenPath(base, {.read_only = true})));
  EXPECT_EQ(image->header().backing_file, middle);
  image->SetBacking(middle_image);
  EXPECT_EQ(image->Map({0, 4096})->depth, 3);
  EXPECT_EQ(image->Map({1 << 20, 4096})->depth, 2);
  Write(*image, 65000, std::string(1000, 'x'));
  Write(*image, (3 << 20) - 100, std::string(200, 'y'));
  ASSERT_EQ(image->Discard({1 << 20, 1 << 16}), absl::OkStatus());
  const std::string now = Contents(*image);
  ASSERT_EQ(image->Close(), absl::OkStatus());
  image.reset();
  middle_image.reset();
  ExpectClean(top);
  EXPECT_TRUE(ContentsByQemu(top) == now);
}

}  // namespace
}  // namespace tidemark::qcow2
