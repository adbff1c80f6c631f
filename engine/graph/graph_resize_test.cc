// Disks that change their size, and what follows: nodes that show them, and the bitmaps of all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/bitmap/limits.h"
#include "engine/graph/graph_fixture.h"
#include "engine/graph/quiesce.h"

namespace tidemark::graph {
namespace {

using storage::kPermissionAll;
using storage::kPermissionResize;

// A window on a disk that begins some way into it.
class Window final : public storage::ForwardingStorage {
 public:
  Window(std::shared_ptr<storage::Storage> next, uint64_t offset_bytes)
      : ForwardingStorage(std::move(next)), offset_bytes_(offset_bytes) {}
  uint64_t size_bytes() const override { return ForwardingStorage::size_bytes() - offset_bytes_; }
  absl::Status Resize(uint64_t size_bytes) override {
    return ForwardingStorage::Resize(size_bytes + offset_bytes_);
  }

 private:
  const uint64_t offset_bytes_;
};

class GraphResizeTest : public GraphTest {
 protected:
  // A node that shows `below`, from an offset on.
  Node* AddRaw(const std::string& name, Node* below, uint64_t offset_bytes = 0) {
    Edge* edge = Use(below, {}, true, "block job 'opening'");
    auto driver =
        std::make_shared<FakeDriver>(std::make_shared<Window>(edge->port(), offset_bytes), "raw");
    const ChildPolicy policy = offset_bytes == 0 ? ChildPolicy::kFilter : ChildPolicy::kWindow;
    auto node = graph.AddNode(
        {.name = name, .driver = std::move(driver), .children = {{edge, kRoleFile, policy}}});
    EXPECT_TRUE(node.ok()) << node.status();
    return *node;
  }
  absl::Status Resize(Node* node, uint64_t size_bytes) {
    auto edge = graph.BeginResize(node, size_bytes);
    if (!edge.ok()) return edge.status();
    Quiesce quiesce(graph.PortsToResize(node));
    absl::Status status = (*edge)->port()->Resize(size_bytes);
    graph.EndResize(*edge);
    return status;
  }
  static std::shared_ptr<bitmap::DirtyBitmap> AddBitmap(Node* node,
                                                        uint64_t granularity_bytes = 4096) {
    EXPECT_TRUE(node->bitmaps().Add({.name = "b", .granularity_bytes = granularity_bytes}).ok());
    return (*node->bitmaps().Find("b"))->bits();
  }
};

TEST_F(GraphResizeTest, ANodeAboveTheDiskFollowsWithItsBitmaps) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  Node* second = AddRaw("raw1", raw);
  const auto bits = AddBitmap(raw);
  const auto far_up = AddBitmap(second);
  bits->Set({kDiskBytes / 2, 1});
  ASSERT_TRUE(Resize(file, 2 * kDiskBytes).ok());
  for (Node* node : {file, raw, second}) {
    EXPECT_EQ(node->storage()->size_bytes(), 2 * kDiskBytes) << node->name();
  }
  EXPECT_EQ(bits->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(far_up->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(bits->CountBytes(), 4096u);
  // What is cut off is forgotten, also when the disk grows again.
  ASSERT_TRUE(Resize(file, kDiskBytes / 2).ok());
  EXPECT_EQ(far_up->size_bytes(), kDiskBytes / 2);
  ASSERT_TRUE(Resize(file, kDiskBytes).ok());
  EXPECT_TRUE(bits->IsEmpty());
}

TEST_F(GraphResizeTest, ANodeBesideTheResizedOneFollowsToo) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  Node* beside = AddRaw("raw1", file);
  const auto bits = AddBitmap(beside);
  const auto file_bits = AddBitmap(file);
  ASSERT_TRUE(Resize(raw, 3 * kDiskBytes).ok());
  EXPECT_EQ(bits->size_bytes(), 3 * kDiskBytes);
  EXPECT_EQ(file_bits->size_bytes(), 3 * kDiskBytes);
}

TEST_F(GraphResizeTest, AFormatKeepsItsOwnSizeAndForbidsItsFileToChange) {
  Node* file = AddFile("file0");
  auto image = TryAddImage("disk0", file);
  ASSERT_TRUE(image.ok());
  const auto bits = AddBitmap(*image);
  ExpectRefused(Resize(file, 2 * kDiskBytes), Reason::kPermissionConflict, "disk0");
  Node* raw = AddRaw("raw0", *image);
  const auto raw_bits = AddBitmap(raw);
  ASSERT_TRUE(Resize(raw, 2 * kDiskBytes).ok());
  EXPECT_EQ(file->storage()->size_bytes(), kDiskBytes);
  EXPECT_EQ(bits->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(raw_bits->size_bytes(), 2 * kDiskBytes);
}

TEST_F(GraphResizeTest, AWindowForbidsItsFileToChangeButForItself) {
  Node* file = AddFile("file0");
  Node* window = AddRaw("window", file, 65536);
  const auto bits = AddBitmap(window);
  const auto file_bits = AddBitmap(file);
  ExpectRefused(Resize(file, 2 * kDiskBytes), Reason::kPermissionConflict, "window");
  ASSERT_TRUE(Resize(window, 2 * kDiskBytes).ok());
  EXPECT_EQ(bits->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(file_bits->size_bytes(), 2 * kDiskBytes + 65536);
}

TEST_F(GraphResizeTest, UsersFarUpForbidAChange) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  Edge* guest = Use(raw, kGuest);
  ExpectRefused(Resize(file, 2 * kDiskBytes), Reason::kPermissionConflict, "raw0");
  graph.Detach(guest);
  ASSERT_TRUE(TryAddImage("overlay", AddFile("file1"), raw).ok());
  ExpectRefused(Resize(file, 2 * kDiskBytes), Reason::kNodeBusy, "overlay");
  ExpectRefused(Resize(raw, 2 * kDiskBytes), Reason::kNodeBusy, "overlay");
  EXPECT_EQ(file->storage()->size_bytes(), kDiskBytes);
}

TEST_F(GraphResizeTest, BitmapsFarUpForbidWhatTheyCannotFollow) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  AddBitmap(raw, 512);
  const uint64_t too_large = 512 * bitmap::kGranuleCountMax + kDiskBytes;
  ExpectRefused(Resize(file, too_large), Reason::kLimitReached, "raw0");
  auto inconsistent = graph.AddNode(
      {.name = "image0",
       .driver = NewDriver(),
       .bitmaps = {{.name = "old",
                    .inconsistent = true,
                    .bits = std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 4096)}}});
  ASSERT_TRUE(inconsistent.ok());
  AddRaw("raw1", *inconsistent);
  Node* top = AddRaw("raw2", *graph.Find("raw1"));
  ExpectRefused(Resize(top, 2 * kDiskBytes), Reason::kBitmapInconsistent, "old");
  EXPECT_EQ(top->storage()->size_bytes(), kDiskBytes);
}

TEST_F(GraphResizeTest, ABitmapTakesOnTheSizeOfADiskThatGrewByItself) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  Node* beside = AddRaw("raw1", file);
  const auto bits = AddBitmap(beside);
  Edge* writer = Use(raw, {storage::kPermissionWrite | kPermissionResize, kPermissionAll});
  // As a format does that lives there.
  ASSERT_TRUE(writer->port()->Write(kDiskBytes, Filled(8192, 1)).ok());
  ASSERT_EQ(beside->storage()->size_bytes(), kDiskBytes + 8192);
  EXPECT_EQ((*beside->bitmaps().Find("b"))->bits()->size_bytes(), kDiskBytes + 8192);
  EXPECT_EQ((*beside->bitmaps().Find("b"))->bits(), bits);
}

TEST_F(GraphResizeTest, ABitmapThatCannotFollowIsInconsistent) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  AddBitmap(raw, 512);
  const uint64_t too_large = 512 * bitmap::kGranuleCountMax + 4096;
  ASSERT_TRUE(DriverOf(file).storage()->Resize(too_large).ok());
  EXPECT_TRUE((*raw->bitmaps().Find("b"))->inconsistent());
  ExpectRefused(raw->bitmaps().Clear("b").status(), Reason::kBitmapInconsistent, "b");
  auto removed = raw->bitmaps().Remove("b");
  ASSERT_TRUE(removed.ok()) << removed.status();
  removed->commit();
}

TEST_F(GraphResizeTest, PortsOfAllWhoSeeTheSizeAreClosed) {
  Node* file = AddFile("file0");
  Node* raw = AddRaw("raw0", file);
  Node* beside = AddRaw("raw1", file);
  Edge* guest = Use(beside, kReader);
  Edge* own = Use(raw, kReader);
  EXPECT_THAT(graph.PortsToResize(raw), testing::UnorderedElementsAre(guest->port(), own->port()));
}

}  // namespace
}  // namespace tidemark::graph
