// The guest itself: it boots, writes, and finds out what is wrong. No Tidemark yet.
#include "tests/guest/vm.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "tests/guest/records.h"
#include "tests/support/image.h"

namespace tidemark::test {
namespace {

constexpr uint64_t kDiskBytes = 16 << 20;

class VmTest : public ::testing::TestWithParam<QemuBuild> {
 protected:
  void SetUp() override {
    const std::string why_not = WhyNoGuest(GetParam());
    if (!why_not.empty()) GTEST_SKIP() << why_not;
    for (const std::string& image : images_) Image::Create(image, kDiskBytes);
  }

  TempFolder folder_;
  const std::array<std::string, 2> images_ = {folder_.File("disk0.qcow2"),
                                              folder_.File("disk1.qcow2")};
};

TEST_P(VmTest, WhatOneGuestWritesAnotherVerifies) {
  Vm writer(&folder_, GetParam(), "writer", Role::kWrite, images_);
  ASSERT_TRUE(writer.AwaitWritten(400));
  EXPECT_EQ(writer.Stop(), 0) << writer.Log();
  const uint64_t written = writer.Written();
  const std::array<uint64_t, 2> found = ExamineImages(images_);
  EXPECT_GE(found[1], written);
  Vm verifier(&folder_, GetParam(), "verifier", Role::kVerify, images_);
  EXPECT_EQ(verifier.AwaitVerdict(), found);
  // And it goes on where it was.
  Vm again(&folder_, GetParam(), "again", Role::kWrite, images_);
  ASSERT_TRUE(again.AwaitWritten(written + 100));
  EXPECT_EQ(again.Stop(), 0) << again.Log();
  EXPECT_EQ(FaultOfImages(images_), "");
}

TEST_P(VmTest, ACopyOfTwoMomentsIsFoundOut) {
  Vm writer(&folder_, GetParam(), "writer", Role::kWrite, images_);
  ASSERT_TRUE(writer.AwaitWritten(64));
  // Copied while it is written to: disk 1 is later than disk 0.
  const std::string early = folder_.File("early.qcow2");
  EXPECT_EQ(RunTool({"qemu-img", "convert", "-U", "-O", "qcow2", images_[0], early}).exit_status,
            0);
  ASSERT_TRUE(writer.AwaitMore(64));
  EXPECT_EQ(writer.Stop(), 0) << writer.Log();
  EXPECT_NE(FaultOfImages({early, images_[1]}), "");
  Vm verifier(&folder_, GetParam(), "verifier", Role::kVerify, {early, images_[1]});
  EXPECT_NONFATAL_FAILURE(verifier.AwaitVerdict(), "records: bad: ");
}

INSTANTIATE_TEST_SUITE_P(On, VmTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
