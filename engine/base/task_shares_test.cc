#include "engine/base/task_shares.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

using ::testing::ElementsAre;

// Tasks that hang: begun when they are run, over when the test says so.
class TaskSharesTest : public ::testing::Test {
 protected:
  void Post(Executor* owner, const std::string& name) {
    owner->Post([this, name] { begun_.push_back(name); });
  }
  // Ends the task at `index` of those that were given to threads.
  void End(size_t index) {
    Task task = std::move(threads_[index]);
    threads_[index] = nullptr;
    task();
  }
  int RunningCount() const { return shares_.running_count(); }

  std::vector<std::string> begun_;
  std::vector<Task> threads_;
  TaskShares shares_{16, 4, [this](Task task) { threads_.push_back(std::move(task)); }};
};

TEST_F(TaskSharesTest, TasksOfOneOwnerBeginInOrder) {
  const auto owner = shares_.MakeOwner();
  for (int i = 0; i < 6; ++i) Post(owner.get(), absl::StrCat(i));
  for (int i = 0; i < 6; ++i) End(i);
  EXPECT_THAT(begun_, ElementsAre("0", "1", "2", "3", "4", "5"));
  EXPECT_EQ(RunningCount(), 0);
}

TEST_F(TaskSharesTest, OneOwnerGetsNoMoreThanItsShare) {
  const auto hanging = shares_.MakeOwner();
  for (int i = 0; i < 100; ++i) Post(hanging.get(), "hangs");
  EXPECT_EQ(RunningCount(), 4);
  const auto other = shares_.MakeOwner();
  Post(other.get(), "other");
  EXPECT_EQ(RunningCount(), 5);
  End(4);
  EXPECT_THAT(begun_, ElementsAre("other"));
  for (size_t i = 0; i < threads_.size(); ++i) {
    if (threads_[i] != nullptr) End(i);
  }
  EXPECT_EQ(begun_.size(), 101u);
}

TEST_F(TaskSharesTest, TheSharesShrinkAsThreadsAreTaken) {
  std::vector<std::unique_ptr<Executor>> owners;
  std::vector<int> running;
  for (int i = 0; i < 9; ++i) {
    owners.push_back(shares_.MakeOwner());
    for (int task = 0; task < 10; ++task) Post(owners.back().get(), "hangs");
    running.push_back(RunningCount());
  }
  EXPECT_THAT(running, ElementsAre(4, 6, 8, 9, 10, 11, 12, 13, 14));
  // What ends makes room for those who wait, all of them in the end.
  for (size_t i = 0; i < threads_.size(); ++i) End(i);
  EXPECT_EQ(begun_.size(), 90u);
  EXPECT_EQ(RunningCount(), 0);
}

TEST_F(TaskSharesTest, NoMoreThanAllThreadsAreTakenAndTheRestIsServedInTurn) {
  std::vector<std::unique_ptr<Executor>> owners;
  for (int i = 0; i < 40; ++i) {
    owners.push_back(shares_.MakeOwner());
    Post(owners.back().get(), absl::StrCat(i));
  }
  EXPECT_EQ(RunningCount(), 16);
  for (int i = 0; i < 40; ++i) End(i);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(begun_[i], absl::StrCat(i));
}

TEST_F(TaskSharesTest, AnOwnerMayGoBeforeItsTasks) {
  auto owner = shares_.MakeOwner();
  for (int i = 0; i < 6; ++i) Post(owner.get(), absl::StrCat(i));
  owner = nullptr;
  for (int i = 0; i < 6; ++i) End(i);
  EXPECT_EQ(begun_.size(), 6u);
}

}  // namespace
}  // namespace tidemark
