// One job as its events tell it. A plain value: whoever owns it feeds it.
#ifndef ENGINE_BACKEND_JOB_VIEW_H_
#define ENGINE_BACKEND_JOB_VIEW_H_

#include <utility>

#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::backend {

class JobView {
 public:
  // Begins with the first event seen of the job: `created`, unless it began before we listened.
  explicit JobView(const ::tidemark::block::v1::Event& first);

  // Whether `event`, which names the same id, is of a later job that has it now.
  bool IsOfAnother(const ::tidemark::block::v1::Event& event) const;

  // Takes in the job's next event.
  void Apply(const ::tidemark::block::v1::Event& event);

  // Another job has the id since `event`, so this one is gone. If its end was not told, it counts
  // as lost.
  void Supersede(const ::tidemark::block::v1::Event& event);

  const ::tidemark::block::v1::Job& job() const { return job_; }
  void set_unsaved(bool unsaved) { job_.set_unsaved(unsaved); }

  // As it was saved: what the accessors said.
  JobView(::tidemark::block::v1::Job job, ::tidemark::block::v1::JobOutcome coming_outcome,
          bool aborting, uint64_t end_sequence)
      : job_(std::move(job)),
        coming_outcome_(coming_outcome),
        aborting_(aborting),
        end_sequence_(end_sequence) {}
  // What its outcome will be, once it is concluded, as far as that was told.
  ::tidemark::block::v1::JobOutcome coming_outcome() const { return coming_outcome_; }
  // It was told to be on its way to an end without success.
  bool aborting() const { return aborting_; }

  // Sequence of the event by which it ended; 0 if it has not.
  uint64_t end_sequence() const { return end_sequence_; }

  // It has an outcome; nothing but its status (concluded, then null) will still change.
  bool ended() const { return job_.outcome() != ::tidemark::block::v1::JOB_OUTCOME_UNSPECIFIED; }

 private:
  void ApplyStatus(const ::tidemark::block::v1::Event& event);
  void ApplyProgress(const ::tidemark::block::v1::Event& event);
  void SetFigures(const ::tidemark::block::v1::Event& event, int64_t progress, int64_t total);
  void End(const ::tidemark::block::v1::Event& event);

  ::tidemark::block::v1::Job job_;
  // What its outcome will be, once it is concluded.
  ::tidemark::block::v1::JobOutcome coming_outcome_ =
      ::tidemark::block::v1::JOB_OUTCOME_UNSPECIFIED;
  bool aborting_ = false;
  uint64_t end_sequence_ = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_JOB_VIEW_H_
