// Guests that write without pause while other things happen, and the proof that a copy of their
// disk is the disk as it was at one instant.
//
// Each lane is a connection with a part of the disk for itself, on which it has one request under
// way at a time. So what the disk holds at any instant is, lane by lane, the outcome of the first
// so many requests of that lane: of all that were answered before, none that was sent after.
#ifndef TESTS_SUPPORT_RANDOM_WRITER_H_
#define TESTS_SUPPORT_RANDOM_WRITER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/guest.h"

namespace tidemark::test {

class RandomWriter {
 public:
  // How many requests each lane had sent, or had answered.
  using Instant = std::vector<size_t>;

  struct Options {
    size_t lane_count = 2;
    // Each lane flushes after so many requests; 0: never.
    size_t flush_every = 0;
    // The server may be killed: a lane then ends with the first request that fails, and nothing is
    // wrong.
    bool may_be_cut_off = false;
  };
  // Begins at once. `start` is what the disk holds now.
  RandomWriter(const NbdPlace& place, const ByteModel& start, uint64_t seed)
      : RandomWriter(place, start, seed, Options()) {}
  RandomWriter(const NbdPlace& place, const ByteModel& start, uint64_t seed,
               const Options& options);
  ~RandomWriter();
  RandomWriter(const RandomWriter&) = delete;
  RandomWriter& operator=(const RandomWriter&) = delete;

  // All requests answered by now: what these wrote is in a copy that is begun after this call.
  Instant Answered() const;
  // All requests sent by now: a copy that was begun before this call holds nothing of later ones.
  Instant Sent() const;

  // Returns when every lane has had `count` more requests answered; false if that takes too long.
  bool WaitForMore(size_t count) const;

  // Ends the writing; returns when the last request is answered.
  void Stop();

  // Empty if `contents` is the disk at one instant not before `earliest` and not after `latest`;
  // else a text that says what is wrong where.
  std::string Explain(const std::string& contents, const Instant& earliest,
                      const Instant& latest) const;
  // The same for what lies in `ranges` alone: a copy that does not hold all of the disk.
  std::string ExplainPart(const std::string& contents, const Ranges& ranges,
                          const Instant& earliest, const Instant& latest) const;
  // The same for a disk whose server was killed: each sector holds what it held at its lane's last
  // flush, or what a later request, answered or not, wrote there. After Stop.
  std::string ExplainAfterCrash(const std::string& contents) const;

  // What the disk holds at the end. After Stop.
  ByteModel Model() const;
  // Requests answered in all.
  size_t request_count() const;

 private:
  struct Request {
    Range range;
    // 0: zeroes.
    uint64_t pattern = 0;
  };
  struct Lane {
    Range part;
    std::thread thread;
    mutable std::mutex mutex;
    std::vector<Request> requests;
    size_t answered = 0;
    // Requests that are durable.
    size_t flushed = 0;
  };

  void Run(Lane* lane, NbdPlace place, uint64_t seed);
  // False if the server is gone, which it may be.
  bool Send(Guest& guest, const Request& request) const;
  bool FlushIfDue(Guest& guest, Lane* lane) const;
  static void Apply(const Request& request, ByteModel* model);

  const Options options_;
  const ByteModel start_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::atomic<bool> stop_{false};
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_RANDOM_WRITER_H_
