#include "engine/storage/file_storage.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/external_tool.h"
#include "engine/storage/io_queue.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kMebibyte = 1024 * 1024;

Reason ReasonOf(const absl::Status& status) {
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  EXPECT_TRUE(details.has_value()) << status;
  return details.has_value() ? details->reason : Reason::kQemuRefused;
}

std::shared_ptr<FileStorage> Open(const std::string& path, FileOptions options = {}) {
  const auto file = OpenFile(path, options);
  EXPECT_EQ(file.status(), absl::OkStatus());
  return file.ok() ? *file : nullptr;
}

ConstBytes AsBytes(const std::string& text) {
  return ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

std::string ReadBack(Storage& disk, Range range) {
  std::string text(range.length_bytes, '?');
  EXPECT_EQ(
      disk.Read(range.offset_bytes, Bytes(reinterpret_cast<std::byte*>(text.data()), text.size())),
      absl::OkStatus());
  return text;
}

uint64_t SizeOnDisk(const std::string& path) {
  struct stat info;
  EXPECT_EQ(stat(path.c_str(), &info), 0);
  return info.st_size;
}

TEST(OpenFile, AnOddFileIsADiskOfWholeSectors) {
  const std::string path = TestPath("odd");
  std::ofstream(path) << std::string(700, 'x');
  const auto file = Open(path);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->size_bytes(), 1024u);
  EXPECT_EQ(file->file_size_bytes(), 700u);
  EXPECT_EQ(ReadBack(*file, {600, 424}), std::string(100, 'x') + std::string(324, '\0'));
  const auto tail = file->Map({700, 324});
  ASSERT_EQ(tail.status(), absl::OkStatus());
  EXPECT_EQ(tail->content, Extent::Content::kZero);
  EXPECT_EQ(tail->range, (Range{700, 324}));
  const auto placed = file->PlaceRead({0, 1024});
  ASSERT_EQ(placed.status(), absl::OkStatus());
  ASSERT_EQ((*placed)->pieces().size(), 2u);
  EXPECT_EQ((*placed)->pieces()[0].range, (Range{0, 700}));
  EXPECT_EQ((*placed)->pieces()[1].target, nullptr);
  ASSERT_EQ(file->Write(1000, AsBytes("end")), absl::OkStatus());
  EXPECT_EQ(SizeOnDisk(path), 1003u);
  EXPECT_EQ(file->size_bytes(), 1024u);
}

TEST(OpenFile, TwoNamesOfAFileHaveOneIdentity) {
  const std::string path = TestPath("one");
  std::ofstream(path) << "x";
  std::ofstream(TestPath("another")) << "x";
  unlink(TestPath("two").c_str());
  ASSERT_EQ(link(path.c_str(), TestPath("two").c_str()), 0);
  EXPECT_EQ(Open(path)->identity(), Open(TestPath("two"))->identity());
  EXPECT_NE(Open(path)->identity(), Open(TestPath("another"))->identity());
}

TEST(OpenFile, TheLastDescriptorsAreNotTaken) {
  const std::string path = TestPath("image");
  std::ofstream(path) << "x";
  rlimit limits = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limits), 0);
  const rlim_t before = limits.rlim_cur;
  limits.rlim_cur = 200;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limits), 0);
  std::vector<std::shared_ptr<FileStorage>> files;
  absl::Status refused;
  while (refused.ok()) {
    const auto file = OpenFile(path, {});
    refused = file.status();
    if (file.ok()) files.push_back(*file);
  }
  EXPECT_EQ(ReasonOf(refused), Reason::kLimitReached);
  EXPECT_NE(refused.message().find("200"), std::string::npos) << refused;
  const int still = open(path.c_str(), O_RDONLY);
  EXPECT_GE(still, 0);
  EXPECT_LE(still, 150);
  close(still);
  limits.rlim_cur = before;
  setrlimit(RLIMIT_NOFILE, &limits);
}

TEST(OpenFile, NamesTheFileThatIsNotThere) {
  const auto file = OpenFile(TestPath("absent"), {});
  EXPECT_EQ(ReasonOf(file.status()), Reason::kFileNotFound);
  EXPECT_NE(file.status().message().find(TestPath("absent")), std::string::npos);
}

TEST(OpenFile, RefusesFoldersAndPipes) {
  EXPECT_FALSE(OpenFile(TestPath(""), {}).ok());
  EXPECT_EQ(ReasonOf(OpenFile(TestPath(""), {.read_only = true}).status()),
            Reason::kFeatureUnsupported);
  const std::string pipe = TestPath("pipe");
  unlink(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(ReasonOf(OpenFile(pipe, {.read_only = true}).status()), Reason::kFeatureUnsupported);
}

TEST(OpenFile, TakesAnOpenDescriptorAndClosesItOnFailureToo) {
  const int fd = open(TestPath("").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(fd, 0);
  EXPECT_FALSE(AdoptFile(fd, "a folder", {.read_only = true}).ok());
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
}

TEST(CreateFile, MakesASparseFileOfTheSize) {
  const std::string path = TestPath("sparse");
  ASSERT_EQ(CreateFile(path, 10 * kMebibyte + 1, Preallocation::kOff), absl::OkStatus());
  EXPECT_EQ(SizeOnDisk(path), 10 * kMebibyte + 1);
  EXPECT_EQ(Open(path)->AllocatedBytes().value(), 0u);
}

TEST(CreateFile, ReservesOrWritesTheSpace) {
  for (Preallocation preallocation : {Preallocation::kFallocate, Preallocation::kFull}) {
    const std::string path = TestPath("reserved");
    ASSERT_EQ(CreateFile(path, 3 * kMebibyte + 512, preallocation), absl::OkStatus());
    EXPECT_EQ(SizeOnDisk(path), 3 * kMebibyte + 512);
    EXPECT_GE(Open(path)->AllocatedBytes().value(), 3 * kMebibyte);
  }
}

TEST(CreateFile, LeavesNothingOfWhatTheFileHeld) {
  const std::string path = TestPath("old");
  std::ofstream(path) << std::string(5000, 'x');
  ASSERT_EQ(CreateFile(path, 4096, Preallocation::kOff), absl::OkStatus());
  EXPECT_EQ(ReadBack(*Open(path), {0, 4096}), std::string(4096, '\0'));
}

TEST(CreateFile, DoesNotTouchAFileThatSomebodyUses) {
  const std::string path = TestPath("used");
  std::ofstream(path) << "precious";
  const auto user = Open(path, {.permissions_used = kPermissionConsistentRead,
                                .permissions_shared = kPermissionConsistentRead});
  EXPECT_EQ(ReasonOf(CreateFile(path, 4096, Preallocation::kOff)), Reason::kImageLocked);
  EXPECT_EQ(ReadBack(*user, {0, 8}), "precious");
}

TEST(CreateFile, ReportsAnImpossibleSize) {
  EXPECT_EQ(ReasonOf(CreateFile(TestPath("huge"), ~uint64_t{0}, Preallocation::kOff)),
            Reason::kNoSpace);
  EXPECT_EQ(ReasonOf(CreateFile(TestPath("huge"), uint64_t{1} << 60, Preallocation::kFallocate)),
            Reason::kNoSpace);
  EXPECT_EQ(SizeOnDisk(TestPath("huge")), 0u);
}

class FileStorageTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(CreateFile(path_, 8 * kMebibyte, Preallocation::kOff), absl::OkStatus());
  }
  const std::string path_ = TestPath("disk");
};

TEST_F(FileStorageTest, GrowsWhenWrittenPastItsEnd) {
  const auto file = Open(path_);
  ASSERT_EQ(file->Write(9 * kMebibyte, AsBytes("tail")), absl::OkStatus());
  // A disk of whole sectors, whatever the file's length is.
  EXPECT_EQ(file->size_bytes(), 9 * kMebibyte + 512);
  EXPECT_EQ(SizeOnDisk(path_), 9 * kMebibyte + 4);
  EXPECT_EQ(ReadBack(*file, {9 * kMebibyte - 2, 8}), std::string("\0\0tail\0\0", 8));
}

TEST_F(FileStorageTest, ReadOnlyRefusesEveryChangeByName) {
  const auto file = Open(path_, {.read_only = true, .discard_unmaps = true});
  EXPECT_TRUE(file->limits().read_only);
  for (const absl::Status& status :
       {file->Write(0, AsBytes("x")), file->WriteZeroes({0, 512}), file->Discard({0, 512}),
        file->Resize(1), file->PlaceWrite({0, 512}).status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::kNodeReadOnly);
    EXPECT_NE(status.message().find(path_), std::string::npos);
  }
  EXPECT_EQ(file->Flush(), absl::OkStatus());
}

// Whether the kernel is asked shows in its answer: a pipe in the file's place cannot be flushed.
TEST_F(FileStorageTest, WhatNothingWasChangedInSinceItsLastFlushIsNotFlushed) {
  const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  const int kept = dup(fd);
  int pipe_ends[2];
  ASSERT_EQ(pipe2(pipe_ends, O_CLOEXEC), 0);
  const auto file = AdoptFile(fd, path_, {.locking = FileOptions::Locking::kOff});
  ASSERT_TRUE(file.ok()) << file.status();
  // Once, for those who had it open before.
  EXPECT_EQ((*file)->Flush(), absl::OkStatus());
  ASSERT_EQ(dup2(pipe_ends[0], fd), fd);
  EXPECT_EQ((*file)->Flush(), absl::OkStatus());
  ASSERT_EQ(dup2(kept, fd), fd);
  const auto placement = (*file)->PlaceWrite({0, 512});
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_EQ((*file)->Flush(), absl::OkStatus());
  EXPECT_EQ((*placement)->Finish(), absl::OkStatus());
  ASSERT_EQ(dup2(pipe_ends[0], fd), fd);
  EXPECT_FALSE((*file)->Flush().ok());
  for (const int end : {kept, pipe_ends[0], pipe_ends[1]}) close(end);
}

TEST_F(FileStorageTest, MapFindsDataBetweenHoles) {
  const auto file = Open(path_);
  ASSERT_EQ(file->Write(2 * kMebibyte, AsBytes(std::string(kMebibyte, 'd'))), absl::OkStatus());
  struct Expected {
    Range range;
    Extent::Content content;
  };
  const Expected expected[] = {
      {{0, 2 * kMebibyte}, Extent::Content::kZero},
      {{2 * kMebibyte, kMebibyte}, Extent::Content::kData},
      {{3 * kMebibyte, 5 * kMebibyte}, Extent::Content::kZero},
  };
  for (const Expected& part : expected) {
    const Extent extent = file->Map(Range::FromTo(part.range.offset_bytes, 8 * kMebibyte)).value();
    EXPECT_EQ(extent.range, part.range);
    EXPECT_EQ(extent.content, part.content);
    EXPECT_EQ(extent.hole, part.content == Extent::Content::kZero);
  }
  // Cut to the question, also when the answer is remembered.
  EXPECT_EQ(file->Map({3 * kMebibyte + 100, 10})->range, (Range{3 * kMebibyte + 100, 10}));
  EXPECT_EQ(file->Map({8 * kMebibyte, 1}).status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(FileStorageTest, MapDoesNotRememberAHoleThatWasFilled) {
  const auto file = Open(path_);
  EXPECT_EQ(file->Map({0, kMebibyte})->content, Extent::Content::kZero);
  ASSERT_EQ(file->Write(0, AsBytes(std::string(kMebibyte, 'd'))), absl::OkStatus());
  EXPECT_EQ(file->Map({0, kMebibyte})->content, Extent::Content::kData);
}

TEST_F(FileStorageTest, DiscardGivesSpaceBackOnlyIfAskedToAtOpen) {
  for (const bool discards : {false, true}) {
    const auto file = Open(path_, {.discard_unmaps = discards});
    ASSERT_EQ(file->Write(0, AsBytes(std::string(kMebibyte, 'd'))), absl::OkStatus());
    ASSERT_EQ(file->Flush(), absl::OkStatus());
    const uint64_t before = file->AllocatedBytes().value();
    ASSERT_EQ(file->Discard({0, kMebibyte}), absl::OkStatus());
    EXPECT_EQ(file->limits().can_discard, discards);
    EXPECT_EQ(ReadBack(*file, {0, 1}), discards ? std::string(1, '\0') : "d");
    const uint64_t after = file->AllocatedBytes().value();
    if (discards) {
      EXPECT_LE(after, before - kMebibyte);
    } else {
      EXPECT_EQ(after, before);
    }
  }
}

TEST_F(FileStorageTest, ZeroingKeepsASparseFileSparse) {
  const auto file = Open(path_);
  ASSERT_EQ(file->Write(kMebibyte, AsBytes(std::string(kMebibyte, 'd'))), absl::OkStatus());
  ASSERT_EQ(file->WriteZeroes({0, 8 * kMebibyte}), absl::OkStatus());
  EXPECT_LE(file->AllocatedBytes().value(), kMebibyte + 65536);
  EXPECT_EQ(ReadBack(*file, {0, 8 * kMebibyte}), std::string(8 * kMebibyte, '\0'));
}

TEST_F(FileStorageTest, ZeroingCanReserveSpace) {
  const auto file = Open(path_);
  ASSERT_EQ(file->WriteZeroes({0, kMebibyte}, {.may_unmap = false}), absl::OkStatus());
  EXPECT_GE(file->AllocatedBytes().value(), kMebibyte);
}

TEST_F(FileStorageTest, ZeroingPastTheEndGrows) {
  for (const bool may_unmap : {false, true}) {
    const auto file = Open(path_);
    const uint64_t size_bytes = file->size_bytes();
    ASSERT_EQ(file->WriteZeroes({size_bytes - 512, kMebibyte}, {.may_unmap = may_unmap}),
              absl::OkStatus());
    EXPECT_EQ(file->size_bytes(), size_bytes - 512 + kMebibyte);
    EXPECT_EQ(SizeOnDisk(path_), file->size_bytes());
  }
}

TEST_F(FileStorageTest, CompressedWritesAreRefused) {
  EXPECT_EQ(ReasonOf(Open(path_)->Write(0, AsBytes("x"), {.compressed = true})),
            Reason::kFeatureUnsupported);
}

TEST_F(FileStorageTest, PlacedWritesCountWhenFinished) {
  const auto file = Open(path_);
  AlignedBuffer buffer(kMebibyte);
  std::fill_n(buffer.data(), buffer.size(), std::byte{'p'});
  auto placement = file->PlaceWrite({8 * kMebibyte, kMebibyte}).value();
  ASSERT_EQ(placement->pieces().size(), 1u);
  const Placement::Piece& piece = placement->pieces()[0];
  IoQueue::Request request;
  request.operation = IoQueue::Operation::kWrite;
  request.target = piece.target;
  request.direct = piece.target->file()->direct_fd >= 0;
  request.offset_bytes = piece.target_offset_bytes;
  request.memory = buffer.data();
  request.length_bytes = buffer.size();
  const std::unique_ptr<IoQueue> queue = MakeIoQueue(1);
  queue->Submit(request);
  std::vector<IoQueue::Completion> completions;
  queue->Reap(absl::InfiniteDuration(), &completions);
  ASSERT_EQ(completions.at(0).status, absl::OkStatus());
  ASSERT_EQ(placement->Finish(), absl::OkStatus());
  EXPECT_EQ(file->size_bytes(), 9 * kMebibyte);
  EXPECT_EQ(ReadBack(*file, {9 * kMebibyte - 1, 1}), "p");
}

// Writes 'p's by a placement past the end, and gives it up.
void AbandonPlacedWrite(FileStorage& file, Range range) {
  const auto placement = file.PlaceWrite(range).value();
  std::string text(range.length_bytes, 'p');
  const std::unique_ptr<IoQueue> queue = MakeIoQueue(1);
  queue->Submit({IoQueue::Operation::kWrite, placement->pieces()[0].target, range.offset_bytes,
                 reinterpret_cast<std::byte*>(text.data()), text.size()});
  std::vector<IoQueue::Completion> completions;
  queue->Reap(absl::InfiniteDuration(), &completions);
  ASSERT_EQ(completions.at(0).status, absl::OkStatus());
}

TEST_F(FileStorageTest, ZeroesReachWhatAnAbandonedPlacementLeftBehindTheEnd) {
  for (const bool unmaps : {false, true}) {
    const auto file = Open(path_, {.discard_unmaps = unmaps});
    const Range range = {file->size_bytes() + kMebibyte, kMebibyte};
    AbandonPlacedWrite(*file, range);
    ASSERT_EQ(file->WriteZeroes(range), absl::OkStatus());
    EXPECT_TRUE(ReadBack(*file, range) == std::string(kMebibyte, '\0'));
  }
}

TEST_F(FileStorageTest, ZeroesReachWhatAWriteUnderWayHasPutBehindTheEnd) {
  const auto file = Open(path_);
  const Range range = {8 * kMebibyte, kMebibyte};
  const auto placement = file->PlaceWrite(range).value();
  const std::string text(range.length_bytes, 'p');
  ASSERT_EQ(pwrite(placement->pieces()[0].target->file()->buffered_fd, text.data(), text.size(),
                   range.offset_bytes),
            static_cast<ssize_t>(text.size()));
  ASSERT_EQ(file->WriteZeroes(range), absl::OkStatus());
  EXPECT_TRUE(ReadBack(*file, range) == std::string(kMebibyte, '\0'));
}

TEST_F(FileStorageTest, GrownSpaceIsNotWhatAnAbandonedPlacementLeft) {
  const auto file = Open(path_);
  AbandonPlacedWrite(*file, {8 * kMebibyte, kMebibyte});
  // The file has grown, and says so: only what lies behind it was never written.
  EXPECT_EQ(file->size_bytes(), 9 * kMebibyte);
  ASSERT_EQ(file->Resize(10 * kMebibyte), absl::OkStatus());
  EXPECT_TRUE(ReadBack(*file, {9 * kMebibyte, kMebibyte}) == std::string(kMebibyte, '\0'));
}

TEST_F(FileStorageTest, AnUnusedPlacementLeavesTheSizeAlone) {
  const auto file = Open(path_);
  file->PlaceWrite({8 * kMebibyte, kMebibyte}).value().reset();
  EXPECT_EQ(file->size_bytes(), 8 * kMebibyte);
}

TEST_F(FileStorageTest, AWriteThatFailsHalfwayHasGrownTheFile) {
  const auto file = Open(path_);
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit = before;
  limit.rlim_cur = 8 * kMebibyte + kMebibyte / 2;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = file->Write(8 * kMebibyte, AsBytes(std::string(kMebibyte, 'w')));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(file->size_bytes(), SizeOnDisk(path_));
  EXPECT_EQ(file->size_bytes(), 8 * kMebibyte + kMebibyte / 2);
  ASSERT_EQ(file->WriteZeroes({8 * kMebibyte, kMebibyte}), absl::OkStatus());
  EXPECT_TRUE(ReadBack(*file, {8 * kMebibyte, kMebibyte}) == std::string(kMebibyte, '\0'));
}

TEST_F(FileStorageTest, PlacedReadsPointAtNothingForHoles) {
  const auto file = Open(path_);
  ASSERT_EQ(file->Write(4 * kMebibyte, AsBytes(std::string(kMebibyte, 'd'))), absl::OkStatus());
  const auto placement = file->PlaceRead({0, 8 * kMebibyte}).value();
  ASSERT_EQ(placement->pieces().size(), 3u);
  EXPECT_EQ(placement->pieces()[0].target, nullptr);
  EXPECT_EQ(placement->pieces()[1].target, file->target());
  EXPECT_EQ(placement->pieces()[1].target_offset_bytes, 4 * kMebibyte);
  EXPECT_EQ(placement->pieces()[2].target, nullptr);
}

TEST_F(FileStorageTest, ASizeThatTheFileSystemCannotHaveChangesNothing) {
  const auto file = Open(path_);
  const absl::Status status = file->Resize(uint64_t{1} << 62);
  EXPECT_EQ(ReasonOf(status), Reason::kNoSpace);
  EXPECT_EQ(file->size_bytes(), 8 * kMebibyte);
}

TEST_F(FileStorageTest, ADirectFileWithARaggedEndIsReadToIt) {
  ASSERT_EQ(CreateFile(path_, 10000, Preallocation::kOff), absl::OkStatus());
  const auto opened = OpenFile(path_, {.direct = true});
  if (!opened.ok()) GTEST_SKIP() << opened.status();
  const std::shared_ptr<FileStorage> file = *opened;
  ASSERT_EQ(file->Write(9990, AsBytes("0123456789")), absl::OkStatus());
  EXPECT_EQ(SizeOnDisk(path_), 10000u);
  EXPECT_EQ(ReadBack(*file, {8192, 4096}).substr(9990 - 8192, 12),
            std::string("0123456789\0\0", 12));
  EXPECT_EQ(ReadBack(*file, {1, 9999}).substr(9989), "0123456789");
}

}  // namespace
}  // namespace tidemark::storage
