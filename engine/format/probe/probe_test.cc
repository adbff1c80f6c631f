#include "engine/format/probe/probe.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/storage/external_tool.h"
#include "gtest/gtest.h"

namespace tidemark::probe {
namespace {

std::string FormatOfBytes(const std::string& file) {
  const storage::ConstBytes bytes(reinterpret_cast<const std::byte*>(file.data()), file.size());
  return std::string(FormatOf(bytes.subspan(0, std::min(kHeadBytes, file.size())),
                              bytes.last(std::min(kTailBytes, file.size()))));
}

std::string FormatOfFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return FormatOfBytes(std::string(std::istreambuf_iterator<char>(file), {}));
}

// How a `qemu-img create` is to be called, and what comes of it.
struct Made {
  std::string format;
  std::string options;
  std::string looks_like;
};

class ImagesOfQemu : public ::testing::TestWithParam<Made> {};

TEST_P(ImagesOfQemu, AreKnownByTheirMarks) {
  if (!storage::HaveTool("qemu-img")) GTEST_SKIP() << "qemu-img is not installed";
  const std::string path = storage::TestPath("image");
  std::vector<std::string> command = {"qemu-img", "create", "-q", "-f", GetParam().format};
  if (GetParam().format == "luks") {
    command.insert(command.end(), {"--object", "secret,id=key,data=secret"});
  }
  if (!GetParam().options.empty()) command.insert(command.end(), {"-o", GetParam().options});
  command.insert(command.end(), {path, "1M"});
  storage::ToolResult made = storage::RunTool(command);
  // For luks it measures how fast it is, and gives up if others use the processor meanwhile.
  while (made.output.find("Unable to get accurate CPU usage") != std::string::npos) {
    made = storage::RunTool(command);
  }
  if (made.output.find("Unknown file format") != std::string::npos) {
    GTEST_SKIP() << "this qemu-img cannot make " << GetParam().format;
  }
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_EQ(FormatOfFile(path), GetParam().looks_like);
}

INSTANTIATE_TEST_SUITE_P(
    Of, ImagesOfQemu,
    ::testing::Values(Made{"raw", "", ""}, Made{"qcow", "", "qcow"},
                      Made{"qcow2", "compat=v3", "qcow2"}, Made{"qcow2", "compat=v2", "qcow2"},
                      Made{"qed", "", "qed"}, Made{"vmdk", "", "vmdk"},
                      Made{"vmdk", "subformat=monolithicFlat", "vmdk"},
                      Made{"vmdk", "subformat=twoGbMaxExtentSparse", "vmdk"},
                      Made{"vmdk", "subformat=twoGbMaxExtentFlat", "vmdk"},
                      Made{"vmdk", "subformat=streamOptimized", "vmdk"}, Made{"vdi", "", "vdi"},
                      Made{"vhdx", "", "vhdx"}, Made{"vhdx", "subformat=fixed", "vhdx"},
                      Made{"vpc", "", "vpc"}, Made{"vpc", "subformat=fixed", "vpc"},
                      Made{"parallels", "", "parallels"},
                      Made{"luks", "key-secret=key,iter-time=10", "luks"}),
    [](const auto& info) { return absl::StrCat(info.param.format, "_", info.index); });

TEST(Probe, WhatQemuCanOnlyReadIsKnownToo) {
  const std::string sector(512, '\0');
  EXPECT_EQ(FormatOfBytes(absl::StrCat("Bochs Virtual HD Image", sector)), "bochs");
  EXPECT_EQ(FormatOfBytes("#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r\n"),
            "cloop");
  EXPECT_EQ(FormatOfBytes(absl::StrCat(sector, "koly", sector.substr(4))), "dmg");
  EXPECT_EQ(FormatOfBytes(absl::StrCat("COWD", sector)), "vmdk");
  EXPECT_EQ(FormatOfBytes(absl::StrCat("WithouFreSpacExt", sector)), "parallels");
  EXPECT_EQ(FormatOfBytes("\n# by hand\r\n\nversion=3\nencoding=\"UTF-8\"\n"), "vmdk");
}

TEST(Probe, AFooterOneByteTooShortIsKnown) {
  EXPECT_EQ(FormatOfBytes(absl::StrCat(std::string(4096, 'x'), "conectix", std::string(503, 0))),
            "vpc");
}

TEST(Probe, PlainBytesLookLikeNothing) {
  EXPECT_EQ(FormatOfBytes(""), "");
  EXPECT_EQ(FormatOfBytes("Q"), "");
  EXPECT_EQ(FormatOfBytes("QFI"), "");
  EXPECT_EQ(FormatOfBytes(std::string(8192, '\0')), "");
  EXPECT_EQ(FormatOfBytes(std::string(8192, '#')), "");
  EXPECT_EQ(FormatOfBytes("# a shell script\nversion=9\n"), "");
  // A mark elsewhere than at its place is data.
  EXPECT_EQ(FormatOfBytes(absl::StrCat(std::string(512, ' '), "KDMV")), "");
}

}  // namespace
}  // namespace tidemark::probe
