#include "tests/guest/stage.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tidemark::test {
namespace {

constexpr char kInstance[] = "vm0";
// Enough that a copy takes its time.
constexpr uint64_t kFirstRecords = 256;
// Enough to see that the guest goes on.
constexpr uint64_t kSomeRecords = 64;

}  // namespace

void GuestStory::SetUp() {
  const std::string why_not = WhyNoGuest(GetParam());
  if (!why_not.empty()) GTEST_SKIP() << why_not;
  for (const std::string& image : Disks()) Image::Create(image, kGuestDiskBytes);
  vm_ = std::make_unique<Vm>(&folder_, GetParam(), kInstance, Role::kWrite, Disks(), Devices());
  daemon_ = std::make_unique<Daemon>(&folder_);
  ASSERT_TRUE(daemon_->started()) << daemon_->Log();
  client_ = std::make_unique<Client>(daemon_->address(), kInstance);
  events_ = std::make_unique<EventRecorder>(client_.get());

  Do(CreateInstance(kInstance, vm_->monitor()));
  ASSERT_TRUE(events_->WaitUntil([](const std::vector<v1::Event>& events) {
    return std::any_of(events.begin(), events.end(), [](const v1::Event& event) {
      return event.has_instance_state_change() &&
             event.instance_state_change().instance().state() == v1::INSTANCE_STATE_READY;
    });
  })) << daemon_->Log();
  ASSERT_TRUE(vm_->AwaitWritten(kFirstRecords));
  booted_ = true;
}

void GuestStory::TearDown() {
  if (booted_) StopGuest();
  events_.reset();
  if (daemon_ == nullptr || !daemon_->started()) return;
  EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
}

Pair GuestStory::InFolder(const std::string& stem) const {
  return {folder_.File(stem + "0.qcow2"), folder_.File(stem + "1.qcow2")};
}

void GuestStory::AwaitEnd(const std::string& job) {
  EXPECT_TRUE(events_->WaitForStatus(job, v1::JOB_STATUS_NULL))
      << job << " does not end; its story: " << absl::StrJoin(events_->StoryOf(job), " ");
}

void GuestStory::Finish(const std::string& job) {
  AwaitEnd(job);
  const v1::Job known = Job(job);
  EXPECT_EQ(known.outcome(), v1::JOB_OUTCOME_SUCCEEDED)
      << job << ": " << absl::StrJoin(events_->StoryOf(job), " ") << ": " << known.error();
}

void GuestStory::AwaitReady(const std::string& job) {
  EXPECT_TRUE(events_->WaitForStatus(job, v1::JOB_STATUS_READY))
      << job << " is never ready; its story: " << absl::StrJoin(events_->StoryOf(job), " ");
}

v1::Job GuestStory::Job(const std::string& job) { return Do(OfJob<v1::GetJobRequest>(job)).job(); }

void GuestStory::StopGuest() {
  if (!vm_->running()) return;
  vm_->AwaitMore(kSomeRecords);
  EXPECT_EQ(vm_->Stop(), 0) << vm_->Log();
}

Newest GuestStory::VerifyByGuest(const Pair& images) {
  Vm judge(&folder_, GetParam(), "judge", Role::kVerify, images);
  return judge.AwaitVerdict();
}

}  // namespace tidemark::test
