#include "adapters/qmp/error_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "engine/base/error.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::Pair;

using Metadata = std::map<std::string, std::string>;

Metadata MetadataOf(const absl::Status& status) {
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  if (!details.has_value()) return {};
  return {details->metadata.begin(), details->metadata.end()};
}

struct Case {
  const char* text;
  Reason reason;
  Metadata metadata;
};

// Said by QEMU 7.2 or 10.0.2, word by word.
const Case kCases[] = {
    {"Job 'j' in state 'running' cannot accept command verb 'complete'",
     Reason::kJobState,
     {{"job", "j"}, {"state", "running"}, {"verb", "complete"}}},
    {"Job is already paused", Reason::kJobState, {}},
    {"Can't resume a job that was not paused", Reason::kJobState, {}},
    {"The block job for device 'held' is currently paused", Reason::kJobState, {{"job", "held"}}},
    {"Job not found", Reason::kJobNotFound, {}},
    {"Block job 'job9' not found", Reason::kBlockJobNotFound, {{"job", "job9"}}},
    {"Job ID 'held' already in use", Reason::kJobExists, {{"job", "held"}}},
    {"Invalid job ID '1x'", Reason::kInvalidField, {{"job", "1x"}, {"field", "job_id"}}},
    {"Job type does not support change", Reason::kFeatureUnsupported, {}},
    {"Cannot find device='disk9' nor node-name='disk9'",
     Reason::kNodeNotFound,
     {{"node", "disk9"}}},
    {"Cannot find device='' nor node-name='disk9'", Reason::kNodeNotFound, {{"node", "disk9"}}},
    {"Cannot find device='drive9' nor node-name=''", Reason::kNodeNotFound, {}},
    {"Could not open backing file: Cannot find device='b' nor node-name='b'",
     Reason::kNodeNotFound,
     {{"node", "b"}}},
    {"Failed to find node with node-name='disk9'", Reason::kNodeNotFound, {{"node", "disk9"}}},
    {"Failed to inactivate node: Operation not permitted", Reason::kNodeBusy, {}},
    {"Node has active parent node", Reason::kNodeBusy, {}},
    {"The node one already has a parent", Reason::kNodeBusy, {{"node", "one"}}},
    {"The number of children cannot be lower than the vote threshold 2", Reason::kNodeBusy, {}},
    {"The node one does not support adding a child", Reason::kNodeLacksFeature, {{"node", "one"}}},
    {"The overlay does not support backing images", Reason::kNodeLacksFeature, {}},
    {"'b' and image file are not in the same chain", Reason::kInvalidCombination, {}},
    {"Node 'disk9' not found", Reason::kNodeNotFound, {{"node", "disk9"}}},
    {"Duplicate nodes with node-name='disk0'", Reason::kNodeExists, {{"node", "disk0"}}},
    {"Could not create node: Duplicate nodes with node-name='t'",
     Reason::kNodeExists,
     {{"node", "t"}}},
    {"Node 'base' is busy: node is used as backing hd of 'over'",
     Reason::kNodeBusy,
     {{"node", "base"}}},
    {"Node 't' is busy: block device is in use by block job: backup",
     Reason::kNodeBusy,
     {{"node", "t"}}},
    {"Node disk0 is in use", Reason::kNodeBusy, {{"node", "disk0"}}},
    {"Block device disk0 is in use", Reason::kNodeBusy, {{"node", "disk0"}}},
    {"Device '(null)' is in use", Reason::kNodeBusy, {}},
    {"Node below is not owned by the monitor", Reason::kNodeNotOwned, {{"node", "below"}}},
    {"Permission conflict on node 'below': permissions 'write, resize' are both required by node "
     "'one' (uses node 'below' as 'file' child) and unshared by node 'two' (uses node 'below' as "
     "'file' child).",
     Reason::kPermissionConflict,
     {{"node", "below"}, {"permission", "write, resize"}, {"user", "node 'two'"}}},
    {"Could not create node: Block node is read-only", Reason::kNodeReadOnly, {}},
    {"Cannot export read-only node as writable", Reason::kNodeReadOnly, {}},
    {"Image is read-only", Reason::kNodeReadOnly, {}},
    {"Failed to get \"write\" lock", Reason::kImageLocked, {}},
    {"Failed to get shared \"write\" lock", Reason::kImageLocked, {}},
    {"Could not open backing file: Failed to get shared \"write\" lock", Reason::kImageLocked, {}},
    {"Could not open '/d/missing.qcow2': No such file or directory",
     Reason::kFileNotFound,
     {{"filename", "/d/missing.qcow2"}}},
    {"Could not open backing file: Could not open '/d/base': No such file or directory",
     Reason::kFileNotFound,
     {{"filename", "/d/base"}}},
    {"Could not open '/d/x': Permission denied", Reason::kFileAccessDenied, {{"filename", "/d/x"}}},
    {"Could not open '/d': Is a directory", Reason::kIoError, {{"filename", "/d"}}},
    {"Could not create '/d/no/x': No such file or directory",
     Reason::kFileNotFound,
     {{"filename", "/d/no/x"}}},
    {"Could not open '/d/x': Image is not in qcow2 format", Reason::kImageFormat, {}},
    {"Image is not in qcow2 format", Reason::kImageFormat, {}},
    {"Unsupported qcow2 feature(s): Unknown incompatible feature: 10000000000",
     Reason::kFeatureUnsupported,
     {}},
    {"Unsupported qcow2 version 9", Reason::kFeatureUnsupported, {}},
    {"qcow2: Image is corrupt; cannot be opened read/write", Reason::kImageCorrupt, {}},
    {"Driver 'raw' of node '#block179' does not support backing files",
     Reason::kNodeLacksFeature,
     {{"field", "format"}}},
    {"aio=native was specified, but it requires cache.direct=on, which was not specified.",
     Reason::kInvalidCombination,
     {{"field", "aio"}}},
    {"l2-cache-size may not exceed cache-size",
     Reason::kInvalidCombination,
     {{"field", "l2_cache_size"}}},
    {"L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
     Reason::kInvalidField,
     {{"field", "l2_cache_entry_size"}}},
    {"The new size must be a multiple of 512", Reason::kInvalidField, {{"field", "size"}}},
    {"Source and target image have different sizes", Reason::kSizeMismatch, {}},
    {"Compression is not supported for this drive ", Reason::kNodeLacksFeature, {}},
    {"Bitmap sync mode must be given when providing a bitmap",
     Reason::kInvalidCombination,
     {{"field", "bitmap_mode"}}},
    {"Bitmap 'b0' is currently in use by another operation and cannot be used",
     Reason::kBitmapBusy,
     {{"bitmap", "b0"}}},
    {"Bitmap 'kept' is inconsistent and cannot be used",
     Reason::kBitmapInconsistent,
     {{"bitmap", "kept"}}},
    {"Bitmap 'kept' is readonly and cannot be modified",
     Reason::kBitmapReadOnly,
     {{"bitmap", "kept"}}},
    {"Bitmap already exists: b0", Reason::kBitmapExists, {{"bitmap", "b0"}}},
    {"Dirty bitmap 'b9' not found", Reason::kBitmapNotFound, {{"bitmap", "b9"}}},
    {"Bitmap 'b9' could not be found", Reason::kBitmapNotFound, {{"bitmap", "b9"}}},
    {"Bitmap 'b9' is not found", Reason::kBitmapNotFound, {{"bitmap", "b9"}}},
    {"Can't store persistent bitmaps to flat: Operation not supported",
     Reason::kNodeLacksFeature,
     {{"node", "flat"}}},
    {"Can't make bitmap 'b1' persistent in 'old': Cannot store dirty bitmaps in qcow2 v2 files",
     Reason::kNodeLacksFeature,
     {{"bitmap", "b1"}, {"node", "old"}}},
    {"Bitmaps are of different sizes (destination size is 8, source size is 16) and can't be "
     "merged",
     Reason::kSizeMismatch,
     {}},
    {"Transaction aborted using Abort action", Reason::kTransactionAborted, {}},
    {"Action 'abort' does not support transaction property completion-mode = grouped",
     Reason::kInvalidCombination,
     {{"action", "abort"}}},
    {"Action 'abort' does not support Transaction property completion-mode = grouped",
     Reason::kInvalidCombination,
     {{"action", "abort"}}},
    {"NBD server not running", Reason::kNbdServerNotRunning, {}},
    {"NBD server already running", Reason::kNbdServerRunning, {}},
    {"Block export id 'e0' is already in use", Reason::kExportExists, {{"export", "e0"}}},
    {"NBD server already has export named 'd'", Reason::kExportExists, {{"export_name", "d"}}},
    {"Export 'e9' is not found", Reason::kExportNotFound, {{"export", "e9"}}},
    {"export 'e0' still in use", Reason::kExportInUse, {{"export", "e0"}}},
    {"Failed to bind socket to /nowhere/x: No such file or directory",
     Reason::kFileNotFound,
     {{"filename", "/nowhere/x"}}},
    {"iothread \"io9\" not found", Reason::kObjectNotFound, {{"object", "io9"}}},
    {"The command nonsense has not been found",
     Reason::kCommandUnsupported,
     {{"command", "nonsense"}}},
    {"Parameter 'discard-source' is unexpected",
     Reason::kFieldUnsupported,
     {{"field", "discard_source"}}},
    {"Parameter 'speed' expects a non-negative value", Reason::kInvalidField, {{"field", "speed"}}},
    {"No medium found", Reason::kDeviceState, {}},
    {"Device has no medium", Reason::kDeviceState, {}},
    {"Device 'drive0' has no medium", Reason::kDeviceState, {{"device", "drive0"}}},
    {"Could not create node: Inactive 'disk0' can't be a file child of active '#block097'",
     Reason::kMachineState,
     {{"node", "disk0"}}},
    {"Permission 'write, resize' unavailable on inactive node", Reason::kMachineState, {}},
    {"Cannot change 'backing' link from 'disk0' to 'base0'",
     Reason::kNodeBusy,
     {{"node", "disk0"}}},
    {"Cannot change frozen 'backing' link from 'disk0' to 'base0'",
     Reason::kNodeBusy,
     {{"node", "disk0"}}},
    {"Cannot freeze 'file' link to 'disk0'", Reason::kNodeBusy, {{"node", "disk0"}}},
    {"Cannot replace implicit backing child of disk0", Reason::kNodeBusy, {{"node", "disk0"}}},
    {"Option 'lazy-refcounts' cannot be reset to its default value",
     Reason::kInvalidField,
     {{"field", "lazy_refcounts"}}},
    {"Block format 'nbd' used by node 'disk0' does not support reopening files",
     Reason::kNodeLacksFeature,
     {{"node", "disk0"}, {"driver", "nbd"}}},
    {"l2-cache-size may not exceed cache-size",
     Reason::kInvalidCombination,
     {{"field", "l2_cache_size"}}},
    {"L2 cache size too big", Reason::kInvalidField, {{"field", "l2_cache_size"}}},
    {"'/x/pipe' is not a regular file", Reason::kInvalidField, {{"filename", "/x/pipe"}}},
    {"There already is a FUSE export on '/x/disk'",
     Reason::kExportExists,
     {{"filename", "/x/disk"}}},
    {"offset(9223372036854775296) exceeds maximum(9223372035781033984)", Reason::kInvalidField, {}},
    {"/x/disk.qcow2: Error: Trying to create an image with the same filename as the backing file",
     Reason::kInvalidCombination,
     {{"field", "snapshot_file"}}},
    {"Invalid parameter type for 'node-name', expected: string",
     Reason::kInvalidField,
     {{"field", "node_name"}}},
};

TEST(ErrorTableTest, EveryTextHasTheReasonThatTheNativeEngineGives) {
  for (const Case& c : kCases) {
    const absl::Status status = FromQemu("GenericError", c.text);
    ASSERT_TRUE(DetailsOf(status).has_value()) << c.text;
    EXPECT_EQ(NameOf(DetailsOf(status)->reason), NameOf(c.reason)) << c.text;
    EXPECT_EQ(status.code(), CodeOf(c.reason)) << c.text;
    EXPECT_THAT(MetadataOf(status), IsSupersetOf(c.metadata)) << c.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.text));
  }
}

TEST(ErrorTableTest, QemusClassIsTold) {
  EXPECT_THAT(MetadataOf(FromQemu("DeviceNotFound", "Device 'd' not found")),
              IsSupersetOf(Metadata{{"qmp_class", "DeviceNotFound"}, {"node", "d"}}));
}

TEST(ErrorTableTest, QemusWordsAreKeptAsTheyAre) {
  const std::string text = "Could not open 'b: \"c\"': Image is not in qcow2 format\nand more";
  EXPECT_THAT(MetadataOf(FromQemu("GenericError", text)), Contains(Pair("qmp_desc", text)));
  v1::JobPauseRequest pause;
  pause.set_id("job9");
  EXPECT_THAT(MetadataOf(FromQemu("GenericError", "Never heard of", "job-pause", pause)),
              IsSupersetOf(Metadata{{"qmp_desc", "Never heard of"}, {"job", "job9"}}));
}

TEST(ErrorTableTest, WhatQemuWasNotAskedSaysSo) {
  v1::JobPauseRequest pause;
  pause.set_id("job9");
  const absl::Status status = AsQemuWould("GenericError", "Job not found", "job-pause", pause);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kJobNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("without QEMU"));
  EXPECT_THAT(MetadataOf(status),
              IsSupersetOf(Metadata{{"qmp_class", "GenericError"}, {"job", "job9"}}));
  EXPECT_THAT(MetadataOf(status), Not(Contains(Pair("qmp_desc", ::testing::_))));
}

TEST(ErrorTableTest, AnUnknownTextIsQemusOwn) {
  const absl::Status status = FromQemu("KVMMissingCap", "The moon is in the wrong phase");
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kQemuRefused);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(std::string(status.message()), HasSubstr("The moon is in the wrong phase"));
  EXPECT_FALSE(FromQemu("", "").ok());
}

TEST(ErrorTableTest, ATextThatOnlyBeginsLikeOneIsAnother) {
  EXPECT_EQ(DetailsOf(FromQemu("", "Job not found in the book"))->reason, Reason::kQemuRefused);
  EXPECT_EQ(DetailsOf(FromQemu("", "The Job not found"))->reason, Reason::kQemuRefused);
}

TEST(ErrorTableTest, NamesMayLookLikeTexts) {
  EXPECT_THAT(MetadataOf(FromQemu("", "Bitmap 'a' is b' is not found")),
              Contains(Pair("bitmap", "a' is b")));
  const absl::Status status = FromQemu("", std::string("Bitmap already exists: a\0b", 26));
  EXPECT_THAT(MetadataOf(status), Contains(Pair("bitmap", "a?b")));
}

TEST(ErrorTableTest, ErrorsOfJobsAreTextsToo) {
  EXPECT_EQ(ReasonOfText("No space left on device"), Reason::kNoSpace);
  EXPECT_EQ(ReasonOfText("Input/output error"), Reason::kIoError);
  EXPECT_EQ(ReasonOfText("Operation canceled"), Reason::kJobCancelled);
  EXPECT_EQ(ReasonOfText("Source and target image have different sizes"), Reason::kSizeMismatch);
  EXPECT_EQ(ReasonOfText("Could not create '/x': No such file or directory"),
            Reason::kFileNotFound);
  EXPECT_EQ(ReasonOfText("Something new"), Reason::kQemuRefused);
}

TEST(ErrorTableTest, ARequestSaysWhatQemuDoesNot) {
  v1::JobPauseRequest pause;
  pause.set_id("job9");
  const absl::Status status = FromQemu("GenericError", "Job not found", "job-pause", pause);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kJobNotFound);
  EXPECT_THAT(MetadataOf(status), Contains(Pair("job", "job9")));
  EXPECT_THAT(std::string(status.message()), HasSubstr("job9"));
}

TEST(ErrorTableTest, AFieldAtFaultIsShownWithItsValue) {
  v1::BlockResizeRequest resize;
  resize.set_node_name("disk0");
  resize.set_size(513);
  const absl::Status status =
      FromQemu("GenericError", "The new size must be a multiple of 512", "block_resize", resize);
  EXPECT_THAT(std::string(status.message()), HasSubstr("field 'size' is 513"));
  EXPECT_THAT(MetadataOf(status), IsSupersetOf(Metadata{{"node", "disk0"}, {"field", "size"}}));
}

TEST(ErrorTableTest, WhatTheTextNamesWinsOverTheRequest) {
  v1::BlockdevBackupRequest backup;
  backup.set_job_id("job0");
  backup.set_device("disk0");
  backup.set_target("target0");
  const absl::Status status = FromQemu(
      "GenericError", "Node 'target0' is busy: block device is in use by block job: backup",
      "blockdev-backup", backup);
  EXPECT_THAT(MetadataOf(status), IsSupersetOf(Metadata{{"node", "target0"}, {"job", "job0"}}));
  const std::string message(status.message());
  for (const char* name : {"job0", "disk0", "target0"}) EXPECT_THAT(message, HasSubstr(name));
}

TEST(ErrorTableTest, OnlyNamesOfARequestAreRepeated) {
  v1::BlockdevAddRequest add;
  add.mutable_options()->set_node_name("disk0");
  v1::BlockdevOptionsFile* file =
      add.mutable_options()->mutable_qcow2()->mutable_file()->mutable_definition()->mutable_file();
  file->set_filename("/images/disk0.qcow2");
  file->set_pr_manager("private");
  const absl::Status status =
      FromQemu("GenericError", "Failed to get \"write\" lock", "blockdev-add", add);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("/images/disk0.qcow2"));
  EXPECT_THAT(message, Not(HasSubstr("private")));
}

TEST(ErrorTableTest, ATextWithoutEndIsLookedAtInPart) {
  std::string text;
  for (int i = 0; i < 1'000'000; ++i) text += ": ";
  EXPECT_EQ(ReasonOfText(text), Reason::kQemuRefused);
}

TEST(ErrorTableTest, NothingInAnErrorForgesMetadata) {
  const std::string error_class("x\0outcome\0not-sent", 18);
  EXPECT_THAT(MetadataOf(FromQemu(error_class, "no")), Not(Contains(Pair("outcome", "not-sent"))));
}

}  // namespace
}  // namespace tidemark::qmp
