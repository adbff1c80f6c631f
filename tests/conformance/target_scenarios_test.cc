// What is made or written over, and what never is: targets of backups and of creation, files whose
// format nobody has said, disks of odd sizes.
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

constexpr auto kLocked = v1::ERROR_REASON_IMAGE_LOCKED;
constexpr auto kExisting = v1::NEW_IMAGE_MODE_EXISTING;

v1::BlockdevOptions RawOver(const std::string& node, const std::string& below) {
  v1::BlockdevOptions options;
  options.set_node_name(node);
  options.mutable_raw()->mutable_file()->set_reference(below);
  return options;
}

class TargetScenarios : public Conformance {
 protected:
  // A raw disk full of data, and its file.
  std::string AddRawDisk(const std::string& node = "disk0") {
    const std::string path = folder().File(node + ".raw");
    WriteFile(path, std::string(kMiB, node.back()));
    operate().Do(Add(RawOptions(node, path)));
    return path;
  }
  // Runs the job; the error it ends with.
  std::string ErrorOf(v1::BlockdevCreateRequest request) {
    request.set_job_id(absl::StrCat("make", ++runs_));
    operate().Do(request);
    operate().AwaitStatus(request.job_id(), v1::JOB_STATUS_CONCLUDED);
    const std::string error = operate().QueriedJob(request.job_id()).error();
    operate().Do(OfJob<v1::JobDismissRequest>(request.job_id()));
    return error;
  }

 private:
  int runs_ = 0;
};

TEST_P(TargetScenarios, TheSourcesOwnFileIsNoTarget) {
  const std::string path = AddRawDisk();
  std::filesystem::create_hard_link(path, folder().File("hard"));
  std::filesystem::create_symlink(path, folder().File("soft"));
  for (const std::string& name : {path, folder().File("hard"), folder().File("soft")}) {
    for (const char* format : {"raw", "qcow2"}) {
      ExpectRefused(BackupToFile({.target = name}, format), kLocked, {name, "disk0"});
    }
    ExpectRefused(BackupToFile({.target = name}, "raw", kExisting), kLocked, {name, "disk0"});
  }
  EXPECT_EQ(ReadFile(path), std::string(kMiB, '0'));
}

TEST_P(TargetScenarios, TheFileOfAnotherNodeIsNoTarget) {
  AddRawDisk();
  const std::string other = AddRawDisk("disk1");
  ExpectRefused(BackupToFile({.target = other}, "raw"), kLocked, {other, "disk1"});
  ExpectRefused(BackupToFile({.target = other}, "raw", kExisting), kLocked, {other, "disk1"});
  EXPECT_EQ(ReadFile(other), std::string(kMiB, '1'));
}

TEST_P(TargetScenarios, TheBackingFileOfTheSourceIsNoTarget) {
  const std::string base = operate().FileOf("base");
  Image::Create(base, kDiskBytes);
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  ExpectRefused(BackupToFile({.target = base}, "qcow2"), kLocked, {base});
  ExpectRefused(BackupToFile({.target = base}, "raw"), kLocked, {base});
}

TEST_P(TargetScenarios, OneFileIsNoTargetTwice) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("disk1");
  const std::string path = folder().File("target");
  EXPECT_THAT(operate().Try(
                  Transact(BackupToFile({.job = "a", .target = path}, "qcow2"),
                           BackupToFile({.job = "b", .source = "disk1", .target = path}, "qcow2"))),
              Refused(kLocked, Mentions{path}));
  EXPECT_THAT(operate().Jobs(), IsEmpty());
}

TEST_P(TargetScenarios, OneRawFileIsNoTargetTwice) {
  AddRawDisk();
  AddRawDisk("disk1");
  const std::string path = folder().File("target");
  EXPECT_THAT(
      operate().Try(Transact(BackupToFile({.job = "a", .target = path}, "raw"),
                             BackupToFile({.job = "b", .source = "disk1", .target = path}, "raw"))),
      Refused(kLocked, Mentions{path}));
  EXPECT_THAT(operate().Jobs(), IsEmpty());
}

TEST_P(TargetScenarios, NothingIsCreatedOverADiskThatIsOpen) {
  const std::string path = folder().File("f");
  WriteFile(path, std::string(kMiB, 'f'));
  operate().Do(Add(FileOptions(path, "f")));
  operate().Do(Add(RawOver("disk0", "f")));
  v1::BlockdevCreateRequest request;
  request.mutable_options()->mutable_file()->set_filename(path);
  request.mutable_options()->mutable_file()->set_size(kMiB);
  EXPECT_THAT(ErrorOf(request),
              ::testing::AllOf(::testing::HasSubstr(path), ::testing::HasSubstr("\"f\"")));
  request.mutable_options()->mutable_qcow2()->mutable_file()->set_reference("f");
  request.mutable_options()->mutable_qcow2()->set_size(kMiB);
  EXPECT_THAT(ErrorOf(request), ::testing::HasSubstr("disk0"));
  // By another node of the same file.
  *request.mutable_options()->mutable_qcow2()->mutable_file()->mutable_definition() =
      FileOptions(path);
  EXPECT_THAT(ErrorOf(request), ::testing::HasSubstr("\"f\""));
  EXPECT_EQ(ReadFile(path), std::string(kMiB, 'f'));
}

TEST_P(TargetScenarios, ARawFileCannotStandOnABackingImage) {
  Image::Create(operate().FileOf("base"), kDiskBytes);
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  constexpr auto kLacks = v1::ERROR_REASON_NODE_LACKS_FEATURE;
  const std::string path = folder().File("target.raw");
  ExpectRefused(BackupToFile({.target = path, .sync = kTop}, "raw"), kLacks, {"raw"});
  ExpectRefused(BackupToFile({.target = path, .sync = kNone}, "raw"), kLacks, {"raw"});
  EXPECT_FALSE(std::filesystem::exists(path));
  WriteFile(path, std::string(kDiskBytes, 'x'));
  ExpectRefused(BackupToFile({.target = path, .sync = kNone}, "raw", kExisting), kLacks, {"raw"});
  EXPECT_EQ(ReadFile(path), std::string(kDiskBytes, 'x'));
}

TEST_P(TargetScenarios, ATopBackupWithoutBackingImageMayBeRaw) {
  operate().CreateDisk("disk0");
  guest().Write(3, Clusters(1, 2));
  const std::string path = folder().File("target.raw");
  operate().Do(BackupToFile({.target = path, .sync = kTop}, "raw"));
  operate().Finish("job0");
  DetachAndCheck({"disk0"});
  EXPECT_EQ(Image(path, "raw").DifferenceFrom(image("disk0")), "");
}

TEST_P(TargetScenarios, ADiskIsWholeSectors) {
  for (const uint64_t size_bytes : {uint64_t{1000}, 3 * kClusterBytes + 700, uint64_t{1}}) {
    const std::string node = absl::StrCat("disk", size_bytes);
    const std::string path = folder().File(node);
    WriteFile(path, std::string(size_bytes, 'o'));
    operate().Do(Add(RawOptions(node, path)));
    const uint64_t shown_bytes = (size_bytes + 511) / 512 * 512;
    EXPECT_EQ(operate().Node(node).image().virtual_size(), static_cast<int64_t>(shown_bytes));

    const std::string by_drive = folder().File(node + ".drive");
    operate().Do(BackupToFile({.job = "d" + node, .source = node, .target = by_drive}, "qcow2"));
    operate().Finish("d" + node);
    const std::string by_blockdev = node + "-target";
    operate().CreateDisk(by_blockdev, shown_bytes);
    operate().Do(Backup({.job = "b" + node, .source = node, .target = by_blockdev}));
    operate().Finish("b" + node);
    const std::string raw = folder().File(node + ".copy");
    operate().Do(BackupToFile({.job = "r" + node, .source = node, .target = raw}, "raw"));
    operate().Finish("r" + node);
    DetachAndCheck({by_blockdev});
    operate().Do(Del(node));
    EXPECT_EQ(std::filesystem::file_size(path), size_bytes);
    EXPECT_EQ(Image(by_drive).DifferenceFrom(Image(path, "raw")), "");
    EXPECT_EQ(image(by_blockdev).DifferenceFrom(Image(path, "raw")), "");
    EXPECT_EQ(Image(raw, "raw").DifferenceFrom(Image(path, "raw")), "");
  }
}

TEST_P(TargetScenarios, TheLastSectorOfAnOddDiskCanBeWritten) {
  const std::string path = folder().File("odd");
  WriteFile(path, std::string(kClusterBytes + 100, '\0'));
  operate().Do(Add(RawOptions("disk0", path)));
  guest().Write(7, {kClusterBytes, 512});
  const std::string copy = folder().File("copy");
  operate().Do(BackupToFile({.target = copy}, "qcow2"));
  operate().Finish("job0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  Unplug();
  operate().Do(Del("disk0"));
  EXPECT_EQ(Image(copy).DifferenceFrom(Image(path, "raw")), "");
}

TEST_P(TargetScenarios, AWindowIsWholeSectors) {
  const std::string path = folder().File("f");
  WriteFile(path, std::string(kMiB, 'f'));
  v1::BlockdevOptions options = RawOptions("disk0", path);
  options.mutable_raw()->set_size(1000);
  ExpectRefused(Add(options), v1::ERROR_REASON_INVALID_FIELD, {"size", "512"});
}

TEST_P(TargetScenarios, AnImageOfAnOddSizeIsRoundedUp) {
  const std::string path = operate().FileOf("disk0");
  Image::Create(path, 1024);
  std::string bytes = ReadFile(path);
  // The size, big-endian, at offset 24.
  bytes[30] = static_cast<char>(1000 >> 8);
  bytes[31] = static_cast<char>(1000 & 0xff);
  WriteFile(path, bytes);
  operate().Attach("disk0");
  EXPECT_EQ(operate().Node("disk0").image().virtual_size(), 1024);
  const std::string copy = folder().File("copy");
  operate().Do(BackupToFile({.target = copy}, "qcow2"));
  operate().Finish("job0");
  EXPECT_THAT(Image(copy), IsSound());
}

TEST_P(TargetScenarios, OptionsOfAFileGoTogether) {
  const std::string path = folder().File("f");
  WriteFile(path, std::string(kMiB, 'f'));
  v1::BlockdevOptions options = FileOptions(path, "f");
  options.mutable_file()->set_aio(v1::BLOCKDEV_AIO_OPTIONS_NATIVE);
  ExpectRefused(Add(options), v1::ERROR_REASON_INVALID_COMBINATION, {"aio", "cache.direct"});
  options.mutable_cache()->set_direct(true);
  operate().Do(Add(options));
}

TEST_P(TargetScenarios, SizesOfCachesGoTogether) {
  constexpr auto kCombination = v1::ERROR_REASON_INVALID_COMBINATION;
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  const auto options = [this](absl::optional<int64_t> all, absl::optional<int64_t> l2,
                              absl::optional<int64_t> refcounts) {
    v1::BlockdevOptions made = Qcow2Options("disk0", operate().FileOf("disk0"));
    if (all.has_value()) made.mutable_qcow2()->set_cache_size(*all);
    if (l2.has_value()) made.mutable_qcow2()->set_l2_cache_size(*l2);
    if (refcounts.has_value()) made.mutable_qcow2()->set_refcount_cache_size(*refcounts);
    return Add(made);
  };
  ExpectRefused(options(kMiB, 2 * kMiB, {}), kCombination, {"cache"});
  ExpectRefused(options(kMiB, {}, 2 * kMiB), kCombination, {"cache"});
  ExpectRefused(options(kMiB, kMiB / 2, kMiB / 2), kCombination, {"cache"});
  ExpectRefused(options(int64_t{1} << 62, {}, {}), v1::ERROR_REASON_INVALID_FIELD, {});
  ExpectRefused(options({}, {}, int64_t{1} << 62), v1::ERROR_REASON_INVALID_FIELD, {});
  v1::BlockdevAddRequest entries = options({}, {}, {});
  entries.mutable_options()->mutable_qcow2()->set_l2_cache_entry_size(kMiB);
  ExpectRefused(entries, v1::ERROR_REASON_INVALID_FIELD, {});
  operate().Do(options(kMiB, kMiB, {}));
}

TEST_P(TargetScenarios, AChainThatIsTooDeepIsRefusedInFewWords) {
  constexpr int kImages = 250;
  const auto name = [](int number) { return absl::StrCat("c", 1000 + number); };
  Image::Create(folder().File("cNNNN"), kDiskBytes);
  Image::Create(folder().File("c0000"), kDiskBytes);
  Image(folder().File("cNNNN")).Over(Image(folder().File("c0000")));
  const std::string overlay = ReadFile(folder().File("cNNNN"));
  const size_t at = overlay.find("c0000");
  ASSERT_NE(at, std::string::npos);
  for (int number = 0; number < kImages; ++number) {
    std::string bytes = overlay;
    bytes.replace(at, 5, number == 0 ? "c0000" : name(number - 1));
    WriteFile(folder().File(name(number)), bytes);
  }
  const auto reply = operate().Try(Add(Qcow2Options("deep", folder().File(name(kImages - 1)))));
  EXPECT_THAT(reply, Refused(v1::ERROR_REASON_LIMIT_REACHED, Mentions{"200"}));
  EXPECT_LT(reply.refusal.message.size(), 500u);
  EXPECT_FALSE(operate().HasNode("deep"));
}

ON_EVERY_BACKEND(TargetScenarios);

// A service that may have few descriptors.
class DescriptorScenarios : public Conformance {
 protected:
  void SetUp() override {
    WriteFile(wrapper_.File("tidemarkd"),
              absl::StrCat("#!/bin/sh\nulimit -n 300\nexec \"", Daemon::Binary(), "\" \"$@\"\n"));
    std::filesystem::permissions(wrapper_.File("tidemarkd"), std::filesystem::perms::owner_all);
    setenv("TIDEMARKD", wrapper_.File("tidemarkd").c_str(), /*replace=*/1);
    Conformance::SetUp();
  }
  void TearDown() override {
    Conformance::TearDown();
    if (before_.has_value()) {
      setenv("TIDEMARKD", before_->c_str(), /*replace=*/1);
    } else {
      unsetenv("TIDEMARKD");
    }
  }

 private:
  const absl::optional<std::string> before_ =
      getenv("TIDEMARKD") == nullptr ? absl::nullopt
                                     : absl::optional<std::string>(getenv("TIDEMARKD"));
  TempFolder wrapper_;
};

TEST_P(DescriptorScenarios, WhenTheyRunOutClientsStillConnectAndCloseImages) {
  Reply<v1::BlockdevAddResponse> reply;
  int opened = 0;
  for (; opened < 300; ++opened) {
    const std::string node = absl::StrCat("disk", opened);
    WriteFile(folder().File(node), std::string(kMiB, 'x'));
    reply = operate().Try(Add(RawOptions(node, folder().File(node))));
    if (!reply.ok()) break;
  }
  EXPECT_THAT(reply, Refused(v1::ERROR_REASON_LIMIT_REACHED, Mentions{"300"}));
  EXPECT_GT(opened, 50);
  std::vector<std::unique_ptr<Client>> clients;
  for (int number = 0; number < 20; ++number) {
    clients.push_back(std::make_unique<Client>(world().daemon().address()));
    EXPECT_THAT(clients.back()->Invoke(v1::QueryJobsRequest()), Accepted()) << number;
  }
  EXPECT_THAT(clients.back()->Invoke(Del("disk0")), Accepted());
  operate().Do(Add(RawOptions("again", folder().File("disk0"))));
}

ON_EVERY_BACKEND(DescriptorScenarios);

// Formats that nobody has said.
class FormatScenarios : public TargetScenarios {
 protected:
  // "disk0" over `base`, whose format it does not record.
  void MakeOverlay(const std::string& base) {
    v1::BlockdevCreateRequest request;
    request.mutable_options()->mutable_file()->set_filename(operate().FileOf("disk0"));
    request.mutable_options()->mutable_file()->set_size(0);
    EXPECT_EQ(ErrorOf(request), "");
    *request.mutable_options()->mutable_qcow2()->mutable_file()->mutable_definition() =
        FileOptions(operate().FileOf("disk0"));
    request.mutable_options()->mutable_qcow2()->set_size(kDiskBytes);
    request.mutable_options()->mutable_qcow2()->set_backing_file(base);
    EXPECT_EQ(ErrorOf(request), "");
  }
  v1::BlockdevAddRequest AddOverlay() {
    return Add(Qcow2Options("disk0", operate().FileOf("disk0")));
  }
};

TEST_P(FormatScenarios, ABackingFileThatLooksLikeAnImageIsNotGuessedAt) {
  const std::string base = folder().File("base");
  MakeOverlay(base);
  for (const auto& [format, options] :
       {std::pair("vmdk", ""), std::pair("qcow2", ""), std::pair("vpc", "subformat=fixed"),
        std::pair("vdi", ""), std::pair("qcow", "")}) {
    Image::Create(base, kDiskBytes, format, options);
    ExpectRefused(AddOverlay(), v1::ERROR_REASON_IMAGE_FORMAT, {base, format, "backing"});
  }
  Image::Create(base, kDiskBytes, "qcow2");
  v1::BlockdevAddRequest told = AddOverlay();
  *told.mutable_options()->mutable_qcow2()->mutable_backing()->mutable_definition() =
      Qcow2Options("", base);
  operate().Do(told);
}

TEST_P(FormatScenarios, ABackingFileThatLooksLikeNothingIsRaw) {
  const std::string base = folder().File("base");
  MakeOverlay(base);
  WriteFile(base, std::string(kDiskBytes, 'b'));
  operate().Do(AddOverlay());
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(std::string(kDiskBytes, 'b')));
}

TEST_P(FormatScenarios, ATargetThatLooksLikeAnImageIsNotGuessedAt) {
  CreateFullDisk();
  const std::string path = folder().File("target");
  for (const char* format : {"qcow2", "vmdk"}) {
    Image::Create(path, kDiskBytes, format);
    ExpectRefused(BackupToFile({.target = path}, "", kExisting), v1::ERROR_REASON_IMAGE_FORMAT,
                  {path, format, "`format`"});
  }
  Image::Create(path, kDiskBytes, "qcow2");
  operate().Do(BackupToFile({.target = path}, "qcow2", kExisting));
  operate().Finish("job0");
  EXPECT_THAT(Image(path), IsSound());
}

ON_EVERY_BACKEND(FormatScenarios);

class ProbedFormatScenarios : public FormatScenarios {
 protected:
  std::vector<std::string> Flags() const override { return {"--probe_formats"}; }
};

TEST_P(ProbedFormatScenarios, WhatAFileLooksLikeDecides) {
  CreateFullDisk();
  const std::string path = folder().File("target");
  Image::Create(path, kDiskBytes, "qcow2");
  operate().Do(BackupToFile({.target = path}, "", kExisting));
  operate().Finish("job0");
  DetachAndCheck({"disk0"});
  EXPECT_THAT(Image(path), IsSound());
  EXPECT_EQ(Image(path).DifferenceFrom(image("disk0")), "");
}

TEST_P(ProbedFormatScenarios, WhatAGuessedImageNamesIsNotOpened) {
  CreateFullDisk();
  const std::string path = folder().File("target");
  const std::string below = folder().File("below");
  Image::Create(path, kDiskBytes);
  Image::Create(below, kDiskBytes);
  Image(path).Over(Image(below));
  ExpectRefused(BackupToFile({.target = path}, "", kExisting), v1::ERROR_REASON_IMAGE_FORMAT,
                {path, below});
}

TEST_P(ProbedFormatScenarios, WhatTheEngineDoesNotHaveIsRefusedByName) {
  const std::string base = folder().File("base");
  MakeOverlay(base);
  Image::Create(base, kDiskBytes, "vmdk");
  ExpectRefused(AddOverlay(), v1::ERROR_REASON_FEATURE_UNSUPPORTED, {base, "vmdk"});
}

ON_EVERY_BACKEND(ProbedFormatScenarios);

}  // namespace
}  // namespace tidemark::test
