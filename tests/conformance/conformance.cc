#include "tests/conformance/conformance.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/conformance/differences.h"
#include "tests/support/process.h"

namespace tidemark::test {

void Conformance::SetUp() {
  for (const char* tool : {"qemu-img", "qemu-storage-daemon"}) {
    if (!HasTool(tool)) GTEST_SKIP() << tool << " is not installed";
  }
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  if (!GetParam().missing.empty()) GTEST_SKIP() << GetParam().missing;
  const std::string difference =
      DifferenceOf(absl::StrCat(test.test_suite_name(), ".", test.name()), GetParam().name);
  if (!difference.empty()) GTEST_SKIP() << difference;
  world_ = GetParam().make(Flags());
  operate_ = std::make_unique<Operator>(world_.get());
  ASSERT_TRUE(world_->Start()) << world_->Log();
}

void Conformance::TearDown() {
  guests_.clear();
  if (world_ == nullptr || !world_->daemon().process().running()) return;
  world_->Stop();
  if (HasFailure()) {
    std::printf("tidemarkd said:\n%s\n", world_->Log().c_str());
  }
}

std::shared_ptr<ByteModel> Conformance::ModelOf(const std::string& node) {
  std::shared_ptr<ByteModel>& model = models_[node];
  if (model == nullptr) {
    const int64_t size = operate().Node(node).image().virtual_size();
    model = std::make_shared<ByteModel>(static_cast<uint64_t>(size));
  }
  return model;
}

NbdPlace Conformance::PlaceOf(const std::string& node) {
  if (std::find(exported_.begin(), exported_.end(), node) == exported_.end()) {
    operate().StartNbd();
    operate().Do(ExportAdd("guest-" + node, node, /*writable=*/true));
    exported_.push_back(node);
  }
  return {operate().nbd_socket(), node};
}

Guest& Conformance::guest(const std::string& node) {
  std::unique_ptr<Guest>& guest = guests_[node];
  if (guest == nullptr) {
    guest = std::make_unique<Guest>(PlaceOf(node), ModelOf(node));
    EXPECT_TRUE(guest->connected()) << node << ": " << guest->error();
  }
  return *guest;
}

void Conformance::Unplug(const std::string& node) {
  guests_.erase(node);
  if (std::erase(exported_, node) > 0) operate().RemoveExport("guest-" + node);
}

void Conformance::CreateFullDisk(const std::string& node, uint64_t size_bytes) {
  operate().CreateDisk(node, size_bytes);
  guest(node).Write(1, {0, size_bytes});
}

void Conformance::DetachAndCheck(const std::vector<std::string>& nodes) {
  for (const std::string& node : nodes) {
    Unplug(node);
    operate().Detach(node);
    EXPECT_THAT(image(node), IsSound());
  }
}

void Conformance::Restart(bool crash) {
  guests_.clear();
  exported_.clear();
  operate().ForgetNbd();
  if (crash) {
    world_->Crash();
  } else {
    world_->Stop();
  }
  ASSERT_TRUE(world_->Start()) << world_->Log();
}

}  // namespace tidemark::test
