#include "service/event_file.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "engine/backend/job_book.h"
#include "engine/base/executor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/orphan_jobs.h"

namespace tidemark {
namespace {

namespace v1 = ::tidemark::block::v1;
using backend::EventPtr;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

EventPtr MakeEvent(uint64_t sequence, const std::string& job = "j") {
  auto event = std::make_shared<backend::Event>();
  event->set_sequence(sequence);
  event->mutable_job_status_change()->set_id(job);
  return event;
}

class EventFileTest : public testing::Test {
 protected:
  EventFileTest() {
    std::string pattern = absl::StrCat(testing::TempDir(), "/eventsXXXXXX");
    folder_ = mkdtemp(pattern.data());
  }
  ~EventFileTest() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<EventFile> Open(size_t file_bytes_max = EventFile::kFileBytesMax) {
    auto file = EventFile::Open(folder_, file_bytes_max);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *std::move(file) : nullptr;
  }
  std::vector<uint64_t> Load(EventFile& file) {
    const auto events = file.Load();
    EXPECT_TRUE(events.ok()) << events.status();
    std::vector<uint64_t> sequences;
    for (const EventPtr& event : *events) sequences.push_back(event->sequence());
    return sequences;
  }

  std::string folder_;
};

TEST_F(EventFileTest, WhatWasSavedIsLoadedByTheNextProcess) {
  {
    const auto file = Open();
    EXPECT_THAT(Load(*file), IsEmpty());
    file->Save({MakeEvent(1), MakeEvent(2)});
    file->Save({MakeEvent(7)});
  }
  const auto file = Open();
  EXPECT_THAT(Load(*file), ElementsAre(1, 2, 7));
  file->Save({MakeEvent(8)});
}

TEST_F(EventFileTest, ATornEndIsCutOffAndWritingGoesOn) {
  {
    const auto file = Open();
    Load(*file);
    file->Save({MakeEvent(1), MakeEvent(2)});
  }
  const auto size = std::filesystem::file_size(folder_ + "/events");
  std::filesystem::resize_file(folder_ + "/events", size - 1);
  {
    const auto file = Open();
    EXPECT_THAT(Load(*file), ElementsAre(1));
    file->Save({MakeEvent(3)});
  }
  EXPECT_THAT(Load(*Open()), ElementsAre(1, 3));
}

TEST_F(EventFileTest, AnyDamagedByteEndsWhatIsLoaded) {
  {
    const auto file = Open();
    Load(*file);
    file->Save({MakeEvent(1), MakeEvent(2)});
  }
  std::ifstream in(folder_ + "/events", std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x55);
    std::ofstream(folder_ + "/events", std::ios::binary) << bad;
    const auto loaded = Load(*Open());
    EXPECT_THAT(loaded, testing::AnyOf(IsEmpty(), ElementsAre(1))) << "byte " << i;
  }
}

TEST_F(EventFileTest, TheFilesAreBoundedAndKeepTheNewest) {
  {
    const auto file = Open(1'000);
    Load(*file);
    for (uint64_t i = 1; i <= 1'000; ++i) file->Save({MakeEvent(i)});
  }
  EXPECT_LE(std::filesystem::file_size(folder_ + "/events"), 1'000u);
  EXPECT_LE(std::filesystem::file_size(folder_ + "/events.previous"), 1'000u);
  const auto loaded = Load(*Open(1'000));
  ASSERT_GT(loaded.size(), 20u);
  EXPECT_EQ(loaded.back(), 1'000u);
  EXPECT_EQ(loaded.front(), 1'001 - loaded.size()) << "without holes";
}

TEST_F(EventFileTest, ProgressIsNotSaved) {
  {
    const auto file = Open();
    Load(*file);
    auto progress = std::make_shared<backend::Event>();
    progress->set_sequence(1);
    progress->mutable_job_progress()->set_id("j");
    file->Save({progress, MakeEvent(2)});
  }
  EXPECT_THAT(Load(*Open()), ElementsAre(2));
}

TEST_F(EventFileTest, TwoProcessesDoNotShareAFolder) {
  const auto first = Open();
  EXPECT_EQ(EventFile::Open(folder_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(OrphanJobs, FailAndTheOthersStayAsTheyAre) {
  WorkerPool executor("test", 1);
  backend::EventLog log(SystemClock(), executor);
  backend::JobBook jobs(log);
  const auto append = [&log](const std::string& instance, const std::string& id,
                             v1::JobStatus status) {
    backend::Event event;
    event.mutable_job_status_change()->set_id(id);
    event.mutable_job_status_change()->set_status(status);
    log.Append(instance, event);
  };
  for (int i = 0; i < 250; ++i) append("", absl::StrCat("j", i), v1::JOB_STATUS_RUNNING);
  append("vm1", "j", v1::JOB_STATUS_RUNNING);
  append("", "done", v1::JOB_STATUS_CREATED);
  append("", "done", v1::JOB_STATUS_CONCLUDED);
  EndOrphanJobs(log, jobs);
  for (int i = 0; i < 250; ++i) {
    const v1::Job job = jobs.Find("", absl::StrCat("j", i))->view.job();
    EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_FAILED);
    EXPECT_NE(job.error(), "");
  }
  EXPECT_EQ(jobs.Find("", "done")->view.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(jobs.Find("vm1", "j")->view.job().outcome(), v1::JOB_OUTCOME_UNSPECIFIED);
}

}  // namespace
}  // namespace tidemark
