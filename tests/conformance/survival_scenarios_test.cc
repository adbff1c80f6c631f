// What QEMU would not survive, or not unharmed, is refused before it gets there.
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/conformance/machine_world.h"
#include "tests/conformance/some_engines.h"
#include "tests/support/qmp_client.h"

namespace tidemark::test {
namespace {

class EnableScenarios : public SomeEngines {
 protected:
  void SetUp() override {
    SomeEngines::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    operate().CreateDisk("disk0");
    operate().Do(BitmapAdd("disk0", "b0"));
  }
};

ON_EVERY_BACKEND(EnableScenarios);

TEST_P(EnableScenarios, ABitmapThatIsNotThere) {
  ExpectRefused(Transact(BitmapEnable("disk0", "nope")), v1::ERROR_REASON_BITMAP_NOT_FOUND,
                {"nope"});
}

TEST_P(EnableScenarios, ANodeThatIsNotThere) {
  ExpectRefused(Transact(BitmapEnable("nobody", "b0")), v1::ERROR_REASON_NODE_NOT_FOUND,
                {"nobody"});
}

TEST_P(EnableScenarios, BehindAnAddOfAnother) {
  ExpectRefused(Transact(BitmapAdd("disk0", "b1"), BitmapEnable("disk0", "b2")),
                v1::ERROR_REASON_BITMAP_NOT_FOUND, {"b2"});
  operate().Do(Transact(BitmapAdd("disk0", "b1", absl::nullopt, false, true),
                        BitmapEnable("disk0", "b1"), BitmapEnable("disk0", "b0")));
  EXPECT_TRUE(operate().Bitmap("disk0", "b1").recording());
}

// QEMU refuses these, and then the bitmap does not record any more.
TEST_P(EnableScenarios, ABitmapThatIsInUseGoesOnRecording) {
  ExpectRefused(Transact(BitmapRemove("disk0", "b0"), BitmapEnable("disk0", "b0")),
                v1::ERROR_REASON_BITMAP_BUSY, {"b0"});
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").recording());
  operate().StartNbd();
  operate().Do(ExportAdd("export0", "disk0", true, {"b0"}));
  ExpectRefused(Transact(BitmapEnable("disk0", "b0")), v1::ERROR_REASON_BITMAP_BUSY, {"b0"});
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").recording());
  operate().RemoveExport("export0");
}

TEST_P(EnableScenarios, BehindASnapshotThatChangesWhatANameMeans) {
  auto transaction = Transact(BitmapEnable("disk0", "b0"));
  operate().Do(transaction);
  Image::Create(operate().FileOf("overlay"), kDiskBytes);
  v1::BlockdevOptions overlay = Qcow2Options("overlay", operate().FileOf("overlay"));
  overlay.mutable_qcow2()->mutable_backing()->mutable_none();
  operate().Do(Add(overlay));
  const auto snapshot = Parse<v1::BlockdevSnapshotRequest>("node: 'disk0' overlay: 'overlay'");
  if (!Has(snapshot)) return;
  auto late = Transact(v1::Abort());
  *late.mutable_actions(0)->mutable_blockdev_snapshot() = snapshot;
  *late.add_actions() = transaction.actions(0);
  if (GetParam().name == "Native") {
    operate().Do(late);  // It looks names up when their action's turn comes.
    return;
  }
  ExpectRefused(late, v1::ERROR_REASON_INVALID_COMBINATION, {"b0", "snapshot"});
}

// QEMU says why behind the name, and a name may be longer than what is told of an error.
class WordsOfQemu : public SomeEngines {};

INSTANTIATE_TEST_SUITE_P(On, WordsOfQemu, ::testing::ValuesIn(Machines()), NameOfBackend);

TEST_P(WordsOfQemu, OfALongNameTheEndIsToldToo) {
  std::string path = folder().path();
  while (path.size() < 2'000) absl::StrAppend(&path, "/", std::string(240, 'x'));
  std::filesystem::create_directories(path);
  const auto reply = operate().Try(Add(FileOptions(path, "file0")));
  ASSERT_FALSE(reply.ok());
  const auto desc = reply.refusal.metadata.find("qmp_desc");
  ASSERT_NE(desc, reply.refusal.metadata.end()) << reply.refusal;
  EXPECT_THAT(desc->second,
              ::testing::StartsWith(absl::StrCat("Could not open '", folder().path())));
  EXPECT_THAT(desc->second, ::testing::EndsWith("x': Is a directory"));
}

class ResizeBelow : public SomeEngines {
 protected:
  void SetUp() override {
    SomeEngines::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    Image::Create(operate().FileOf("disk0"), kDiskBytes, "raw");
    operate().Do(Add(FileOptions(operate().FileOf("disk0"), "file0")));
    operate().Do(Parse<v1::BlockdevAddRequest>(
        "options { node_name: 'disk0' raw { file { reference: 'file0' } } }"));
  }
};

INSTANTIATE_TEST_SUITE_P(On, ResizeBelow, ::testing::ValuesIn(Machines()), NameOfBackend);

TEST_P(ResizeBelow, AFileBelowBitmapsKeepsItsSize) {
  operate().Do(Resize("file0", 2 * kDiskBytes));
  operate().Do(Resize("file0", kDiskBytes));
  operate().Do(Parse<v1::BlockdevAddRequest>(
      "options { node_name: 'top0' copy_on_read { file { reference: 'disk0' } } }"));
  operate().Do(BitmapAdd("top0", "b0"));
  ExpectRefused(Resize("file0", 2 * kDiskBytes), v1::ERROR_REASON_NODE_BUSY, {"file0", "top0"});
  ExpectRefused(
      Parse<v1::BlockdevCreateRequest>(
          "job_id: 'create0' options { qcow2 { file { reference: 'file0' } size: 65536 } }"),
      v1::ERROR_REASON_NODE_BUSY, {"file0", "top0"});
  operate().Do(BitmapRemove("top0", "b0"));
  operate().Do(Resize("file0", 2 * kDiskBytes));
}

TEST_P(ResizeBelow, NoVhdxImageIsMadeInANodeThatIsInUse) {
  ExpectRefused(
      Parse<v1::BlockdevCreateRequest>(
          "job_id: 'create0' options { vhdx { file { reference: 'file0' } size: 65536 } }"),
      v1::ERROR_REASON_NODE_BUSY, {"file0"});
}

TEST_P(ResizeBelow, ABackupByABitmapThatIsLeftBehind) {
  operate().Do(BitmapAdd("disk0", "b0"));
  operate().Do(Add(NullOptions("target0", 2 * kDiskBytes)));
  {
    QmpClient other(SecondMonitor(folder()));
    other.Run("block_resize",
              absl::StrCat(R"({"node-name": "file0", "size": )", 2 * kDiskBytes, "}"));
  }
  // 10.0 notices the size of the file only now.
  operate().Do(Parse<v1::BlockdevReopenRequest>(
      "options { node_name: 'disk0' raw { file { reference: 'file0' } } }"));
  BackupOptions options;
  options.sync = kBitmap;
  options.bitmap = "b0";
  options.mode = kOnSuccess;
  ExpectRefused(Backup(options), v1::ERROR_REASON_SIZE_MISMATCH, {"b0", "disk0"});
  ExpectRefused(Transact(Backup(options)), v1::ERROR_REASON_SIZE_MISMATCH, {"b0", "disk0"});
  options.sync = kFull;
  options.mode = v1::BITMAP_SYNC_MODE_UNSPECIFIED;
  options.bitmap.clear();
  operate().Do(Backup(options));
  operate().Finish("job0");
}

}  // namespace
}  // namespace tidemark::test
