// What a disk may hold, judged by what its guests did: the model that is ten times simpler than an
// engine. It knows requests by when they began and ended, and nothing of how they were carried out.
//
// Every write fills each of its sectors with a mark of its own, so that a sector says which write
// it shows. A request that ended well has happened at one moment between its beginning and its end;
// one that failed, or has not ended, may have happened in that time, or not at all. Whether one of
// two requests is the later one is known only if it began after the other had ended.
#ifndef TESTS_SIMULATION_DISK_MODEL_H_
#define TESTS_SIMULATION_DISK_MODEL_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "engine/base/range.h"
#include "engine/storage/storage.h"

namespace tidemark::simulation {

// A moment: turns of the simulation.
using Moment = uint64_t;
inline constexpr Moment kNever = std::numeric_limits<Moment>::max();

inline constexpr uint64_t kSectorBytes = 512;

class DiskModel {
 public:
  enum class Kind {
    kWrite,
    kZero,
    kDiscard,  // May do nothing, even if it ends well.
  };

  // A disk of whole sectors that holds zeroes.
  explicit DiskModel(uint64_t size_bytes);

  uint64_t size_bytes() const { return marks_.size() * kSectorBytes; }
  // Grown space holds zeroes. Nothing is in flight.
  void Resize(uint64_t size_bytes);

  // A request begins; its number is for the rest.
  int Begin(Kind kind, Range range, Moment now);
  // What a write has to put into its range.
  std::string DataOf(int request) const;
  void End(int request, bool well, Moment now);
  // A flush that began at `began` has ended well: what had ended before it began is durable.
  void NoteFlush(Moment began);

  // Each of these gives an empty text, or says what cannot be.
  //
  // A read between two moments gave `data`.
  std::string JudgeRead(uint64_t offset_bytes, storage::ConstBytes data, Moment from,
                        Moment to) const;
  // `data` is the disk from its beginning, at one instant between two moments. Requests that the
  // instant waits for (`gated`) are in it wholly or not at all. Sectors of which `skip` says true
  // are not looked at (empty: none).
  std::string JudgeInstant(storage::ConstBytes data, Moment from, Moment to, bool gated,
                           const std::vector<bool>& skip = {}) const;
  // The disk was found to hold `data` after the power failed at `now`; and this is what it holds
  // from now on.
  std::string JudgeCrash(storage::ConstBytes data, Moment now) const;
  void Restart(storage::ConstBytes data);

  // Sets the sectors that requests changed for certain which began at or after `from` and ended at
  // or before `to`.
  void AddChanged(Moment from, Moment to, std::vector<bool>* changed) const;

 private:
  struct Request {
    Kind kind = Kind::kWrite;
    Range range;
    Moment began = 0;
    Moment ended = kNever;
    bool well = false;

    bool Certain() const { return well && kind != Kind::kDiscard; }
  };
  // When a sector may have shown what it shows.
  struct Span {
    Moment from = kNever;
    Moment to = 0;
    // How many requests could have put it there, and one of them; -1: it was there before all.
    int count = 0;
    int request = -1;
    bool empty() const { return from > to; }
  };

  static uint64_t MarkOf(int request, uint64_t sector, Kind kind);
  // False if the sector's words differ.
  static bool ReadMark(storage::ConstBytes sector, uint64_t* mark);
  // Of the `mark` at `sector`, within the two moments; changes that ended before `certain_until`
  // cannot have been lost.
  Span SpanOf(uint64_t sector, uint64_t mark, Moment from, Moment to, Moment certain_until) const;
  std::string Describe(uint64_t sector, storage::ConstBytes data) const;

  std::vector<Request> requests_;
  // By sector: what it held before all requests, and the requests that touch it, by beginning.
  std::vector<uint64_t> marks_;
  std::vector<std::vector<int>> touched_by_;
  // What ended before this is durable.
  Moment durable_until_ = 0;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_DISK_MODEL_H_
