// A state folder that hangs: who waits for it, who hears of it. The clock stands still, and hangs
// are what happens while a call of the store is under way.
#include "engine/backend/patient_registry.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/testing/log_world.h"
#include "engine/backend/testing/slow_store.h"
#include "engine/backend/watched_store.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kTimeMax = absl::Seconds(2);

// A registry that answers when the test says so.
class PendingRegistry final : public InstanceRegistry {
 public:
  void Create(const v1::CreateInstanceRequest&, Created done) override {
    created.push_back(std::move(done));
  }
  void Delete(absl::string_view, Deleted done) override { deleted.push_back(std::move(done)); }
  absl::StatusOr<v1::Instance> Get(absl::string_view id) const override {
    v1::Instance instance;
    instance.set_id(std::string(id));
    return instance;
  }
  std::vector<v1::Instance> List() const override { return std::vector<v1::Instance>(3); }

  std::vector<Created> created;
  std::vector<Deleted> deleted;
};

class PatientRegistryTest : public testing::Test {
 protected:
  void Create(const std::string& id) {
    v1::CreateInstanceRequest request;
    request.set_id(id);
    registry_.Create(request, [this](const absl::StatusOr<v1::Instance>& instance) {
      answers_.push_back(instance.status());
    });
  }
  void Delete(const std::string& id) {
    registry_.Delete(id, [this](const absl::Status& status) { answers_.push_back(status); });
  }
  // A call of the store that takes this long, and what happens at its end before it answers.
  void Hang(
      absl::Duration time, std::function<void()> then = [] {}) {
    slow_.during = [this, time, then] {
      executor_.Advance(time);
      then();
    };
    EXPECT_TRUE(store_.SaveInstance({}).ok());
  }
  static void ExpectRefusal(const absl::Status& status, const std::string& id,
                            const std::string& outcome) {
    EXPECT_TRUE(HasReason(status, Reason::kFileNotAnswering)) << status;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(MetadataOf(status, "instance"), id);
    EXPECT_EQ(MetadataOf(status, "file"), "/state");
    EXPECT_EQ(MetadataOf(status, "outcome"), outcome);
    EXPECT_THAT(std::string(status.message()), HasSubstr("'" + id + "'"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("'/state'"));
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  SlowStore slow_;
  WatchedStore store_{slow_, clock_, executor_, kTimeMax};
  PendingRegistry behind_;
  PatientRegistry registry_{behind_, store_, "/state"};
  std::vector<absl::Status> answers_;
};

TEST_F(PatientRegistryTest, WhoWaitsForAStoreThatHangsIsRefusedInTime) {
  Create("vm1");
  Delete("vm2");
  Hang(kTimeMax - absl::Milliseconds(1), [this] {
    EXPECT_TRUE(answers_.empty());
    executor_.Advance(absl::Milliseconds(1));
    ASSERT_EQ(answers_.size(), 2u);
  });
  ExpectRefusal(answers_[0], "vm1", "unknown");
  ExpectRefusal(answers_[1], "vm2", "unknown");
  // What they asked for is done in the end, and answers nobody.
  ASSERT_EQ(behind_.created.size(), 1u);
  ASSERT_EQ(behind_.deleted.size(), 1u);
  behind_.created[0](v1::Instance());
  behind_.deleted[0](absl::OkStatus());
  EXPECT_EQ(answers_.size(), 2u);
}

TEST_F(PatientRegistryTest, WhoComesWhileItHangsIsRefusedAtOnceAndNothingIsDone) {
  Hang(kTimeMax, [this] {
    Create("vm1");
    Delete("vm2");
    ASSERT_EQ(answers_.size(), 2u);
  });
  ExpectRefusal(answers_[0], "vm1", "not-sent");
  ExpectRefusal(answers_[1], "vm2", "not-sent");
  EXPECT_TRUE(behind_.created.empty());
  EXPECT_TRUE(behind_.deleted.empty());
}

TEST_F(PatientRegistryTest, OnceTheStoreAnswersEverybodyIsServedAgain) {
  Hang(10 * kTimeMax);
  Create("vm1");
  ASSERT_EQ(behind_.created.size(), 1u);
  behind_.created[0](v1::Instance());
  EXPECT_THAT(answers_, ElementsAre(absl::OkStatus()));
}

TEST_F(PatientRegistryTest, WhatTakesLongWithoutTheStoreIsWaitedFor) {
  Delete("vm1");  // Its connection takes its time to end.
  executor_.Advance(absl::Hours(1));
  Hang(absl::ZeroDuration());
  executor_.Advance(absl::Hours(1));
  EXPECT_TRUE(answers_.empty());
  behind_.deleted[0](absl::OkStatus());
  EXPECT_THAT(answers_, ElementsAre(absl::OkStatus()));
}

TEST_F(PatientRegistryTest, WhatIsOnlyReadDoesNotWait) {
  Hang(kTimeMax, [this] {
    EXPECT_EQ(registry_.Get("vm1")->id(), "vm1");
    EXPECT_EQ(registry_.List().size(), 3u);
  });
}

TEST_F(PatientRegistryTest, CallsOneAfterTheOtherAreNotTakenForOneThatHangs) {
  std::vector<absl::Duration> told;
  store_.OnLate([&told](absl::Duration age) { told.push_back(age); });
  for (int i = 0; i < 10; ++i) Hang(kTimeMax - absl::Milliseconds(1));
  EXPECT_THAT(told, ElementsAre());
  EXPECT_EQ(store_.late_for(), absl::ZeroDuration());
}

TEST_F(PatientRegistryTest, AStoreThatHangsIsToldAgainAndAgain) {
  std::vector<absl::Duration> told;
  store_.OnLate([&told](absl::Duration age) { told.push_back(age); });
  Hang(absl::ZeroDuration(), [&] {
    for (int i = 0; i < 3; ++i) executor_.Advance(kTimeMax);
    EXPECT_EQ(store_.late_for(), 3 * kTimeMax);
  });
  EXPECT_THAT(told, ElementsAre(kTimeMax, 2 * kTimeMax, 3 * kTimeMax));
  executor_.Advance(kTimeMax);
  EXPECT_EQ(executor_.timers(), 0u) << "without a call nobody looks";
}

}  // namespace
}  // namespace tidemark::backend
