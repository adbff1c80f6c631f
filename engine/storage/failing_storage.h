// A storage that fails as it is told, and is otherwise the one beneath it. Faults are ordinary
// objects: stack it wherever something should break. Safe from any thread.
#ifndef ENGINE_STORAGE_FAILING_STORAGE_H_
#define ENGINE_STORAGE_FAILING_STORAGE_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/storage/storage.h"
#include "engine/storage/verb.h"
#include "engine/storage/watched_placement.h"

namespace tidemark::storage {

// A rule matches requests by verb and range. The first rule in force decides.
struct FailureRule {
  // What matching requests fail with. OK is useful too: a rule that shields from those after it.
  absl::Status status;
  // Absent: every verb.
  absl::optional<Verb> verb;
  // Absent: every range. Flush and Resize match only rules without one.
  absl::optional<Range> range;
  // So many matching requests pass before the rule is in force: 0 fails the first.
  int pass_count = 0;
  // So many fail, then the rule is spent; -1 for all from then on.
  int fail_count = -1;
};

// Placements are handed on, unless a rule for kPlaceRead or kPlaceWrite fails them; what is moved
// by them is judged as any other read or write.
class FailingStorage final : public ForwardingStorage, private PlacementWatch {
 public:
  explicit FailingStorage(std::shared_ptr<Storage> next) : ForwardingStorage(std::move(next)) {}

  void AddRule(FailureRule rule);
  // Heals.
  void ClearRules();
  // Requests failed so far.
  int failure_count() const;
  // While true, PlaceRead and PlaceWrite answer null, so that all data goes by the blocking verbs.
  // False at first.
  void set_refuse_placements(bool refuse);

  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override;
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override;

 private:
  absl::Status PlacedRead(Range range, Bytes buffer,
                          absl::FunctionRef<absl::Status()> move) override;
  absl::Status PlacedWrite(Range range, ConstBytes data,
                           absl::FunctionRef<absl::Status()> move) override;
  absl::Status Judge(Verb verb, absl::optional<Range> range);
  bool refuses_placements() const;

  mutable Mutex mutex_;
  std::vector<FailureRule> rules_ ABSL_GUARDED_BY(mutex_);
  int failure_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool refuse_placements_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_FAILING_STORAGE_H_
