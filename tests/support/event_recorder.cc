#include "tests/support/event_recorder.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/backend/event_subject.h"
#include "engine/base/check.h"
#include "tidemark/block/v1/event.grpc.pb.h"

namespace tidemark::test {

// The subscription and what it has given; own synchronisation.
struct EventRecorder::Stream {
  grpc::ClientContext context;
  std::unique_ptr<v1::EventService::Stub> stub;
  std::unique_ptr<grpc::ClientReader<v1::WatchEventsResponse>> reader;
  std::thread thread;

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<v1::Event> events;
};

namespace {

// "JOB_STATUS_RUNNING" as "running".
std::string Word(const std::string& name, absl::string_view prefix) {
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

std::string WordOf(const v1::Event& event) {
  switch (event.payload_case()) {
    case v1::Event::kJobStatusChange:
      return absl::AsciiStrToLower(
          absl::StripPrefix(v1::JobStatus_Name(event.job_status_change().status()), "JOB_STATUS_"));
    case v1::Event::kBlockJobCompleted:
      return event.block_job_completed().error().empty() ? "COMPLETED" : "COMPLETED(error)";
    case v1::Event::kBlockJobCancelled:
      return "CANCELLED";
    case v1::Event::kBlockJobPending:
      return "PENDING";
    case v1::Event::kBlockJobReady:
      return "READY";
    case v1::Event::kBlockJobError:
      return absl::StrCat(
          "ERROR(",
          Word(v1::IoOperationType_Name(event.block_job_error().operation()), "IO_OPERATION_TYPE_"),
          ", ",
          Word(v1::BlockErrorAction_Name(event.block_job_error().action()), "BLOCK_ERROR_ACTION_"),
          ")");
    case v1::Event::kBlockExportDeleted:
      return "DELETED";
    default:
      return "";
  }
}

// QEMU holds a job for an instant when it changes the graph near it. Nobody asked for that.
bool IsSpontaneous(const v1::Event& event) {
  return event.has_job_status_change() && event.job_status_change().spontaneous();
}

// Takes out each pair that an engine may make by itself.
Story WithoutFlapping(Story story, const std::vector<std::string>& subjects) {
  for (size_t i = 0; i + 1 < story.size();) {
    const bool pair = (story[i] == "paused" && story[i + 1] == "running") ||
                      (story[i] == "standby" && story[i + 1] == "ready");
    if (pair && subjects[i] == subjects[i + 1]) {
      story.erase(story.begin() + static_cast<ptrdiff_t>(i),
                  story.begin() + static_cast<ptrdiff_t>(i) + 2);
      i = i == 0 ? 0 : i - 1;
    } else {
      ++i;
    }
  }
  return story;
}

}  // namespace

std::string SubjectOf(const v1::Event& event) {
  if (event.has_block_export_deleted()) return event.block_export_deleted().id();
  return std::string(backend::JobIdOf(event));
}

EventRecorder::EventRecorder(Client* client) : stream_(std::make_unique<Stream>()) {
  stream_->stub = v1::EventService::NewStub(client->channel());
  v1::WatchEventsRequest request;
  request.add_instances(client->instance());
  stream_->context.set_wait_for_ready(true);
  stream_->reader = stream_->stub->WatchEvents(&stream_->context, request);
  v1::WatchEventsResponse first;
  if (!stream_->reader->Read(&first) || !first.has_heartbeat()) {
    std::fprintf(stderr, "no heartbeat opened the event stream\n");
    CHECK(first.has_heartbeat());
  }
  stream_->thread = std::thread([this] { Listen(); });
}

EventRecorder::~EventRecorder() {
  stream_->context.TryCancel();
  stream_->thread.join();
}

void EventRecorder::Listen() {
  v1::WatchEventsResponse response;
  while (stream_->reader->Read(&response)) {
    if (!response.has_event()) continue;
    const std::lock_guard<std::mutex> lock(stream_->mutex);
    stream_->events.push_back(response.event());
    stream_->changed.notify_all();
  }
  stream_->reader->Finish();
}

std::vector<v1::Event> EventRecorder::events() const {
  const std::lock_guard<std::mutex> lock(stream_->mutex);
  return stream_->events;
}

bool EventRecorder::WaitUntil(const std::function<bool(const std::vector<v1::Event>&)>& condition,
                              absl::Duration timeout) const {
  std::unique_lock<std::mutex> lock(stream_->mutex);
  return stream_->changed.wait_for(lock, absl::ToChronoMilliseconds(timeout),
                                   [&] { return condition(stream_->events); });
}

bool EventRecorder::WaitForStatus(const std::string& job, v1::JobStatus status) const {
  return WaitForStatusTimes(job, status, 1);
}

bool EventRecorder::WaitForStatusTimes(const std::string& job, v1::JobStatus status,
                                       int count) const {
  return WaitUntil([&](const std::vector<v1::Event>& events) {
    return std::count_if(events.begin(), events.end(), [&](const v1::Event& event) {
             return event.has_job_status_change() && event.job_status_change().id() == job &&
                    event.job_status_change().status() == status && !IsSpontaneous(event);
           }) >= count;
  });
}

bool EventRecorder::WaitForKind(const std::string& subject, v1::EventKind kind) const {
  return WaitUntil([&](const std::vector<v1::Event>& events) {
    return std::any_of(events.begin(), events.end(), [&](const v1::Event& event) {
      return event.kind() == kind && SubjectOf(event) == subject;
    });
  });
}

Story EventRecorder::StoryOf(const std::string& job) const {
  Story story;
  for (const v1::Event& event : events()) {
    const std::string word = WordOf(event);
    if (word.empty() || SubjectOf(event) != job || IsSpontaneous(event)) continue;
    story.push_back(word);
  }
  const std::vector<std::string> subjects(story.size(), job);
  return WithoutFlapping(std::move(story), subjects);
}

Story EventRecorder::StoryOf(const std::vector<std::string>& jobs) const {
  // Pairs are taken out of each job's own story; what is left keeps its place in the whole.
  std::vector<Story> own;
  for (const std::string& job : jobs) own.push_back(StoryOf(job));
  std::vector<size_t> next(jobs.size(), 0);
  Story whole;
  for (const v1::Event& event : events()) {
    const auto job = std::find(jobs.begin(), jobs.end(), SubjectOf(event));
    if (job == jobs.end() || IsSpontaneous(event)) continue;
    const size_t index = static_cast<size_t>(job - jobs.begin());
    if (next[index] < own[index].size() && own[index][next[index]] == WordOf(event)) {
      whole.push_back(absl::StrCat(*job, ": ", own[index][next[index]++]));
    }
  }
  return whole;
}

uint64_t EventRecorder::ErrorsOf(const std::string& job) const {
  uint64_t sum = 0;
  for (const v1::Event& event : events()) {
    if (event.has_block_job_error() && event.block_job_error().device() == job) {
      sum += event.block_job_error().count();
    }
  }
  return sum;
}

}  // namespace tidemark::test
