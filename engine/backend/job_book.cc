// The book is a reader of the log: before each answer it takes in what it has not read yet. So that
// it never falls behind what the log holds, it also lets the log wake it now and then. Should it
// fall behind all the same, it goes on with what is left: figures and states of later events are
// whole, and a job whose end it missed counts as running until its id is used again.
//
// Results do not lean on the log: once a job has ended, it stays in the book however many events
// come, until there are too many results.
#include "engine/backend/job_book.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/fair_shares.h"
#include "engine/backend/filter.h"
#include "engine/backend/limits.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr int kPageSizeDefault = 100;
constexpr int kPageSizeMax = 1'000;

// What a request lets pass.
class Filters {
 public:
  explicit Filters(const v1::ListJobsRequest& request)
      : instances_(request.instances()),
        types_(request.types()),
        node_names_(request.node_names()) {
    if (request.has_ended()) ended_ = request.ended();
  }

  bool Pass(const v1::Job& job) const {
    if (!instances_.Passes(job.instance()) || !types_.Passes(job.type())) return false;
    const bool ended = job.outcome() != v1::JOB_OUTCOME_UNSPECIFIED;
    if (ended_.value_or(ended) != ended) return false;
    return node_names_.empty() ||
           std::any_of(job.node_names().begin(), job.node_names().end(),
                       [this](const std::string& node) { return node_names_.Passes(node); });
  }

 private:
  const Filter<std::string> instances_;
  const Filter<int> types_;
  const Filter<std::string> node_names_;
  absl::optional<bool> ended_;
};

// Tells requests apart that must not share page tokens, and logs: a sequence of one means nothing
// to another. FNV-1a: it must only not change while a client turns pages.
uint64_t FiltersHash(v1::ListJobsRequest request, absl::string_view log_id) {
  request.clear_page_size();
  request.clear_page_token();
  uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : absl::StrCat(log_id, request.SerializeAsString())) {
    hash = (hash ^ byte) * 0x100000001b3;
  }
  return hash;
}

// "<start sequence of the last job shown>.<hash of the filters>".
absl::StatusOr<uint64_t> ReadToken(const v1::ListJobsRequest& request, uint64_t filters_hash) {
  const std::vector<std::string> parts = absl::StrSplit(request.page_token(), '.');
  uint64_t before = 0;
  uint64_t hash = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &before) ||
      !absl::SimpleAtoi(parts[1], &hash) || hash != filters_hash) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("page_token: '", request.page_token(),
                              "' is not a token of this service for these filters, or is "
                              "from before it was started anew"),
                 {{"field", "page_token"}});
  }
  return before;
}

}  // namespace

class JobBook::Core : public std::enable_shared_from_this<JobBook::Core> {
 public:
  Core(EventLog& log, JobHistory history, size_t ended_jobs_max)
      : log_(log), position_(history.position), ended_(ended_jobs_max, ended_jobs_max) {
    MutexLock lock(&mutex_);
    for (JobView& view : history.jobs) {
      const uint64_t start = view.job().start_sequence();
      uint64_t& newest = newest_[Key(view.job().instance(), view.job().id())];
      newest = std::max(newest, start);
      jobs_.emplace(start, std::move(view));
    }
    for (const auto& [start, view] : jobs_) NoteEnd(start);
  }

  // Reads on whenever there are events, until the book ends.
  void Follow() {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    CatchUp();
    // With the lock held, so that Stop leaves nobody behind who still uses the log. It calls nobody
    // back from here.
    wake_ = log_.WakeAfter(position_ + kBookBehindMax, [weak = weak_from_this()] {
      if (const auto core = weak.lock()) core->Follow();
    });
  }

  void Stop() {
    MutexLock lock(&mutex_);
    stopped_ = true;
    log_.CancelWake(wake_);
  }

  absl::StatusOr<Entry> Find(absl::string_view instance, absl::string_view id) {
    MutexLock lock(&mutex_);
    CatchUp();
    const auto found = newest_.find(Key(instance, id));
    if (found == newest_.end()) {
      return Error(Reason::kJobNotFound,
                   absl::StrCat("No job '", id, "' runs or is in the history",
                                instance.empty() ? "" : absl::StrCat(" of '", instance, "'")),
                   {{"job", id}, {"instance", instance}});
    }
    Entry entry{jobs_.at(found->second), position_};
    entry.view.set_unsaved(entry.view.job().event_sequence() > log_.saved());
    return entry;
  }

  std::vector<v1::Job> Remaining(absl::string_view instance) {
    MutexLock lock(&mutex_);
    CatchUp();
    std::map<std::string, JobView> views;
    for (auto name = newest_.lower_bound(Key(instance, ""));
         name != newest_.end() && name->first.first == instance; ++name) {
      views.emplace(name->first.second, jobs_.at(name->second));
    }
    uint64_t position = position_;
    for (auto events = log_.ReadHeld(position, true); !events.empty();
         events = log_.ReadHeld(position, true)) {
      position = events.back()->sequence();
      for (const EventPtr& event : events) {
        if (event->instance() == instance) ApplyTo(*event, &views);
      }
    }
    std::vector<v1::Job> remaining;
    for (const auto& [id, view] : views) {
      if (view.job().status() != v1::JOB_STATUS_NULL) remaining.push_back(view.job());
    }
    return remaining;
  }

  bool WorksOn(absl::string_view instance, absl::string_view id, uint64_t sequence,
               absl::FunctionRef<bool(const std::string& node_name)> is_wanted) {
    MutexLock lock(&mutex_);
    CatchUp();
    // The newest job of this id that had begun by then.
    const auto newest = newest_.find(Key(instance, id));
    if (newest == newest_.end()) return false;
    for (auto job = jobs_.upper_bound(std::min(sequence, newest->second)); job != jobs_.begin();) {
      const v1::Job& candidate = (--job)->second.job();
      if (candidate.id() != id || candidate.instance() != instance) continue;
      return std::any_of(candidate.node_names().begin(), candidate.node_names().end(), is_wanted);
    }
    return false;
  }

  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request) {
    const uint64_t filters_hash = FiltersHash(request, log_.id());
    absl::StatusOr<uint64_t> before = UINT64_MAX;
    if (!request.page_token().empty()) before = ReadToken(request, filters_hash);
    if (!before.ok()) return before.status();
    const Filters filters(request);
    const int page_size =
        request.page_size() <= 0 ? kPageSizeDefault : std::min(request.page_size(), kPageSizeMax);
    v1::ListJobsResponse response;
    MutexLock lock(&mutex_);
    CatchUp();
    const uint64_t saved = log_.saved();
    for (auto job = jobs_.lower_bound(*before); job != jobs_.begin();) {
      const v1::Job& candidate = (--job)->second.job();
      if (!filters.Pass(candidate)) continue;
      if (response.jobs_size() == page_size) {
        const v1::Job& last = response.jobs(page_size - 1);
        response.set_next_page_token(absl::StrCat(last.start_sequence(), ".", filters_hash));
        break;
      }
      v1::Job& added = *response.add_jobs();
      added = candidate;
      added.set_unsaved(candidate.event_sequence() > saved);
    }
    return response;
  }

 private:
  using NameKey = std::pair<std::string, std::string>;
  static NameKey Key(absl::string_view instance, absl::string_view id) {
    return {std::string(instance), std::string(id)};
  }

  static void ApplyTo(const Event& event, std::map<std::string, JobView>* views) {
    const std::string id(JobIdOf(event));
    if (id.empty()) return;
    const auto view = views->find(id);
    if (view == views->end() || view->second.IsOfAnother(event)) {
      views->insert_or_assign(id, JobView(event));
    } else {
      view->second.Apply(event);
    }
  }

  void CatchUp() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (;;) {
      const auto events = log_.ReadHeld(position_, /*unshown=*/false);
      if (events.empty()) return;
      for (const EventPtr& event : events) Apply(*event);
      position_ = events.back()->sequence();
    }
  }

  void Apply(const Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const absl::string_view id = JobIdOf(event);
    if (id.empty()) return;
    const NameKey key = Key(event.instance(), id);
    const auto newest = newest_.find(key);
    const bool is_new = newest == newest_.end() || jobs_.at(newest->second).IsOfAnother(event);
    if (is_new) {
      if (newest != newest_.end()) {
        jobs_.at(newest->second).Supersede(event);
        NoteEnd(newest->second);
      }
      jobs_.emplace(event.sequence(), JobView(event));
      newest_[key] = event.sequence();
      NoteEnd(event.sequence());
    } else {
      jobs_.at(newest->second).Apply(event);
      NoteEnd(newest->second);
    }
    while (ended_.is_too_much()) ForgetOldest();
  }

  // Counts the job among those that ended, if it has.
  void NoteEnd(uint64_t start) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const JobView& view = jobs_.at(start);
    if (!view.ended() || !starts_of_ended_.emplace(view.end_sequence(), start).second) return;
    ended_.Add(view.job().instance(), view.end_sequence(), 0);
  }

  void ForgetOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto start = starts_of_ended_.find(ended_.TakeOldest().number);
    const auto oldest = jobs_.find(start->second);
    starts_of_ended_.erase(start);
    const auto name = newest_.find(Key(oldest->second.job().instance(), oldest->second.job().id()));
    if (name != newest_.end() && name->second == oldest->first) newest_.erase(name);
    jobs_.erase(oldest);
  }

  EventLog& log_;

  Mutex mutex_;
  uint64_t position_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, JobView> jobs_ ABSL_GUARDED_BY(mutex_);    // By start sequence.
  std::map<NameKey, uint64_t> newest_ ABSL_GUARDED_BY(mutex_);  // Start of the newest.
  // Those that ended, by the sequences of their ends.
  FairShares ended_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint64_t> starts_of_ended_ ABSL_GUARDED_BY(mutex_);
  uint64_t wake_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

JobBook::JobBook(EventLog& log, JobHistory history, size_t ended_jobs_max)
    : core_(std::make_shared<Core>(log, std::move(history), ended_jobs_max)) {
  core_->Follow();
}
JobBook::~JobBook() { core_->Stop(); }

absl::StatusOr<JobBook::Entry> JobBook::Find(absl::string_view instance,
                                             absl::string_view id) const {
  return core_->Find(instance, id);
}
std::vector<v1::Job> JobBook::Remaining(absl::string_view instance) const {
  return core_->Remaining(instance);
}
bool JobBook::WorksOn(absl::string_view instance, absl::string_view id, uint64_t sequence,
                      absl::FunctionRef<bool(const std::string& node_name)> is_wanted) const {
  return core_->WorksOn(instance, id, sequence, is_wanted);
}
absl::StatusOr<v1::ListJobsResponse> JobBook::List(const v1::ListJobsRequest& request) const {
  return core_->List(request);
}

}  // namespace tidemark::backend
