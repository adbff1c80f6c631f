#include "engine/transaction/transaction.h"

#include <string>

#include "gtest/gtest.h"

namespace tidemark::transaction {
namespace {

// Writes down what is done to it.
class LoggedAction : public Action {
 public:
  LoggedAction(std::string name, std::string* log, absl::Status open = absl::OkStatus(),
               absl::Status prepare = absl::OkStatus())
      : name_(std::move(name)), log_(log), open_(std::move(open)), prepare_(std::move(prepare)) {}

  absl::Status Open() override { return Log("open", open_); }
  absl::Status Prepare() override { return Log("prepare", prepare_); }
  void Commit() override { Log("commit", absl::OkStatus()).IgnoreError(); }
  void Undo() override { Log("undo", absl::OkStatus()).IgnoreError(); }
  void AfterInstant() override { Log("after", absl::OkStatus()).IgnoreError(); }

 private:
  absl::Status Log(const char* verb, const absl::Status& status) {
    *log_ += std::string(verb) + "-" + name_ + " ";
    return status;
  }

  const std::string name_;
  std::string* const log_;
  const absl::Status open_;
  const absl::Status prepare_;
};

class LoggedInstant : public Instant {
 public:
  explicit LoggedInstant(std::string* log) : log_(log) {}
  void Begin() override { *log_ += "[ "; }
  void End() override { *log_ += "] "; }

 private:
  std::string* const log_;
};

class TransactionTest : public testing::Test {
 protected:
  void Add(std::string name, absl::Status open = absl::OkStatus(),
           absl::Status prepare = absl::OkStatus()) {
    actions_.push_back(std::make_unique<LoggedAction>(std::move(name), &log_, open, prepare));
  }

  std::string log_;
  LoggedInstant instant_{&log_};
  std::vector<std::unique_ptr<Action>> actions_;
};

TEST_F(TransactionTest, ActionsRunInOrderAtOneInstant) {
  Add("a");
  Add("b");
  EXPECT_TRUE(transaction::Run(actions_, instant_).ok());
  EXPECT_EQ(log_, "open-a open-b [ prepare-a prepare-b commit-a commit-b ] after-a after-b ");
}

TEST_F(TransactionTest, AFailureUndoesTheEarlierOnesInReverse) {
  Add("a");
  Add("b");
  Add("c", absl::OkStatus(), absl::AbortedError("c refuses"));
  Add("d");
  EXPECT_EQ(transaction::Run(actions_, instant_), absl::AbortedError("c refuses"));
  EXPECT_EQ(log_, "open-a open-b open-c open-d [ prepare-a prepare-b prepare-c undo-b undo-a ] ");
}

TEST_F(TransactionTest, AFailureToOpenHappensBeforeTheInstant) {
  Add("a");
  Add("b", absl::NotFoundError("no b"));
  EXPECT_EQ(transaction::Run(actions_, instant_), absl::NotFoundError("no b"));
  EXPECT_EQ(log_, "open-a open-b ");
}

TEST_F(TransactionTest, NoActionsAreFine) {
  EXPECT_TRUE(transaction::Run(actions_, instant_).ok());
  EXPECT_EQ(log_, "[ ] ");
}

}  // namespace
}  // namespace tidemark::transaction
