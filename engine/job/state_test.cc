// The tables as they are drawn in QEMU's manual of jobs, one letter a cell: a second way to say the
// same, compared cell by cell.
#include "engine/job/state.h"

#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

JobStatus StatusAt(int index) { return static_cast<JobStatus>(index); }

TEST(JobStates, EveryPairOfStatesIsAsDrawn) {
  // Columns: undefined created running paused ready standby waiting pending aborting concluded null
  const char* const kPicture[kJobStatusCount] = {
      /* undefined */ ".y.........",
      /* created   */ "..y.....y.y",
      /* running   */ "...yy.y.y..",
      /* paused    */ "..y........",
      /* ready     */ ".....yy.y..",
      /* standby   */ "....y......",
      /* waiting   */ ".......yy..",
      /* pending   */ "........yy.",
      /* aborting  */ ".........y.",
      /* concluded */ "..........y",
      /* null      */ "...........",
  };
  for (int from = 0; from < kJobStatusCount; ++from) {
    for (int to = 0; to < kJobStatusCount; ++to) {
      EXPECT_EQ(CanMove(StatusAt(from), StatusAt(to)), kPicture[from][to] == 'y')
          << NameOf(StatusAt(from)) << " > " << NameOf(StatusAt(to));
    }
  }
}

TEST(JobStates, EveryVerbInEveryStateIsAsDrawn) {
  // Columns as above.
  const char* const kPicture[kJobVerbCount] = {
      /* cancel    */ ".yyyyyyy...",
      /* pause     */ ".yyyyy.....",
      /* resume    */ ".yyyyy.....",
      /* set-speed */ ".yyyyy.....",
      /* complete  */ "....yy.....",
      /* finalize  */ ".......y...",
      /* dismiss   */ ".........y.",
      /* change    */ ".yyyyy.....",
  };
  for (int verb = 0; verb < kJobVerbCount; ++verb) {
    for (int status = 0; status < kJobStatusCount; ++status) {
      EXPECT_EQ(IsAllowed(static_cast<JobVerb>(verb), StatusAt(status)),
                kPicture[verb][status] == 'y')
          << NameOf(static_cast<JobVerb>(verb)) << " in " << NameOf(StatusAt(status));
    }
  }
}

TEST(JobStates, OnlyCreateIsNoBlockJob) {
  EXPECT_TRUE(IsBlockJob(JobType::kBackup));
  EXPECT_TRUE(IsBlockJob(JobType::kMirror));
  EXPECT_TRUE(IsBlockJob(JobType::kStream));
  EXPECT_TRUE(IsBlockJob(JobType::kCommit));
  EXPECT_FALSE(IsBlockJob(JobType::kCreate));
}

TEST(JobStates, NamesAreTheWordsOfTheManual) {
  EXPECT_EQ(NameOf(JobStatus::kUndefined), "undefined");
  EXPECT_EQ(NameOf(JobStatus::kNull), "null");
  EXPECT_EQ(NameOf(JobVerb::kSetSpeed), "set-speed");
  EXPECT_EQ(NameOf(JobType::kCreate), "create");
}

}  // namespace
}  // namespace tidemark::job
