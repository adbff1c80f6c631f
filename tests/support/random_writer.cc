#include "tests/support/random_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tidemark::test {
namespace {

constexpr uint64_t kUnitBytes = 512;
constexpr uint64_t kRequestBytes = 96 * 1024;
constexpr absl::Duration kPause = absl::Microseconds(500);

// The number of the pattern in the first whole sector at `offset_bytes`; 0 for zeroes.
uint64_t PatternAt(const std::string& bytes, uint64_t offset_bytes) {
  uint64_t pattern = 0;
  memcpy(&pattern, bytes.data() + offset_bytes + sizeof(pattern), sizeof(pattern));
  return pattern;
}

// What of `differences`, which begin at `offset_bytes`, lies in `ranges`.
Ranges Within(const Ranges& differences, const Ranges& ranges, uint64_t offset_bytes) {
  Ranges within;
  for (const Range& difference : differences) {
    const Range there{offset_bytes + difference.offset_bytes, difference.length_bytes};
    for (const Range& range : ranges) {
      const Range both = there.Intersect(range);
      if (both.length_bytes == 0) continue;
      within.push_back({both.offset_bytes - offset_bytes, both.length_bytes});
    }
  }
  return within;
}

}  // namespace

RandomWriter::RandomWriter(const NbdPlace& place, const ByteModel& start, uint64_t seed,
                           const Options& options)
    : options_(options), start_(start) {
  const uint64_t part_bytes = start.size_bytes() / options.lane_count / kUnitBytes * kUnitBytes;
  for (size_t i = 0; i < options.lane_count; ++i) {
    lanes_.push_back(std::make_unique<Lane>());
    Lane* lane = lanes_.back().get();
    lane->part = {i * part_bytes, part_bytes};
    lane->thread = std::thread([this, lane, place, seed, i] { Run(lane, place, seed * 1000 + i); });
  }
}

RandomWriter::~RandomWriter() { Stop(); }

void RandomWriter::Run(Lane* lane, NbdPlace place, uint64_t seed) {
  std::mt19937_64 random(seed);
  Guest guest(place, std::make_shared<ByteModel>(start_.size_bytes()));
  if (!guest.connected() && options_.may_be_cut_off) return;
  ASSERT_TRUE(guest.connected()) << guest.error();
  uint64_t pattern = seed * 1000000;
  while (!stop_) {
    const uint64_t units = lane->part.length_bytes / kUnitBytes;
    const uint64_t first = random() % units;
    const uint64_t count = 1 + random() % (kRequestBytes / kUnitBytes);
    Request request;
    request.range =
        Range{lane->part.offset_bytes + first * kUnitBytes, count * kUnitBytes}.Intersect(
            lane->part);
    request.pattern = random() % 5 == 0 ? 0 : ++pattern;
    {
      const std::lock_guard<std::mutex> lock(lane->mutex);
      lane->requests.push_back(request);
    }
    if (!Send(guest, request)) return;
    {
      const std::lock_guard<std::mutex> lock(lane->mutex);
      ++lane->answered;
    }
    if (!FlushIfDue(guest, lane)) return;
    absl::SleepFor(kPause);
  }
}

bool RandomWriter::Send(Guest& guest, const Request& request) const {
  const int error = request.pattern == 0 ? guest.TryZero(request.range)
                                         : guest.TryWrite(request.pattern, request.range);
  if (error != 0 && options_.may_be_cut_off) return false;
  EXPECT_EQ(error, 0) << "writing pattern " << request.pattern << " to " << request.range;
  return true;
}

bool RandomWriter::FlushIfDue(Guest& guest, Lane* lane) const {
  size_t answered;
  {
    const std::lock_guard<std::mutex> lock(lane->mutex);
    answered = lane->answered;
  }
  if (options_.flush_every == 0 || answered % options_.flush_every != 0) return true;
  const int error = guest.TryFlush();
  if (error != 0 && options_.may_be_cut_off) return false;
  EXPECT_EQ(error, 0) << "flushing";
  const std::lock_guard<std::mutex> lock(lane->mutex);
  lane->flushed = answered;
  return true;
}

RandomWriter::Instant RandomWriter::Answered() const {
  Instant instant;
  for (const auto& lane : lanes_) {
    const std::lock_guard<std::mutex> lock(lane->mutex);
    instant.push_back(lane->answered);
  }
  return instant;
}

RandomWriter::Instant RandomWriter::Sent() const {
  Instant instant;
  for (const auto& lane : lanes_) {
    const std::lock_guard<std::mutex> lock(lane->mutex);
    instant.push_back(lane->requests.size());
  }
  return instant;
}

bool RandomWriter::WaitForMore(size_t count) const {
  const Instant before = Answered();
  const absl::Time deadline = absl::Now() + absl::Seconds(40);
  while (absl::Now() < deadline) {
    const Instant now = Answered();
    bool enough = true;
    for (size_t i = 0; i < now.size(); ++i) enough = enough && now[i] >= before[i] + count;
    if (enough) return true;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return false;
}

void RandomWriter::Stop() {
  stop_ = true;
  for (const auto& lane : lanes_) {
    if (lane->thread.joinable()) lane->thread.join();
  }
}

void RandomWriter::Apply(const Request& request, ByteModel* model) {
  if (request.pattern == 0) {
    model->Zero(request.range);
  } else {
    model->Write(request.pattern, request.range);
  }
}

std::string RandomWriter::Explain(const std::string& contents, const Instant& earliest,
                                  const Instant& latest) const {
  return ExplainPart(contents, {{0, start_.size_bytes()}}, earliest, latest);
}

std::string RandomWriter::ExplainPart(const std::string& contents, const Ranges& ranges,
                                      const Instant& earliest, const Instant& latest) const {
  if (contents.size() != start_.size_bytes()) {
    return absl::StrCat("holds ", contents.size(), " bytes instead of ", start_.size_bytes());
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const Lane& lane = *lanes_[i];
    const std::lock_guard<std::mutex> lock(lane.mutex);
    ByteModel model = start_;
    const auto part = [&lane](const std::string& bytes) {
      return absl::string_view(bytes).substr(lane.part.offset_bytes, lane.part.length_bytes);
    };
    Ranges closest = {lane.part};
    std::string picture;
    for (size_t done = 0; done <= latest[i] && done <= lane.requests.size(); ++done) {
      if (done > 0) Apply(lane.requests[done - 1], &model);
      if (done < earliest[i]) continue;
      const Ranges differences =
          Within(Differences(part(model.bytes()), part(contents)), ranges, lane.part.offset_bytes);
      if (BytesIn(differences) < BytesIn(closest)) {
        closest = differences;
        picture.clear();
        for (Range range : differences) {
          const uint64_t at = lane.part.offset_bytes + range.offset_bytes;
          absl::StrAppend(&picture, " ", Range{at, range.length_bytes}.ToString(),
                          " holds pattern ", PatternAt(contents, at), " instead of ",
                          PatternAt(model.bytes(), at));
        }
      }
      if (differences.empty()) {
        closest.clear();
        break;
      }
    }
    if (!closest.empty()) {
      return absl::StrCat("lane ", i, " at ", lane.part.ToString(),
                          " is like no instant between requests ", earliest[i], " and ", latest[i],
                          "; in the closest", picture);
    }
  }
  return "";
}

std::string RandomWriter::ExplainAfterCrash(const std::string& contents) const {
  if (contents.size() != start_.size_bytes()) {
    return absl::StrCat("holds ", contents.size(), " bytes instead of ", start_.size_bytes());
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const Lane& lane = *lanes_[i];
    ByteModel durable = start_;
    for (size_t done = 0; done < lane.flushed; ++done) Apply(lane.requests[done], &durable);
    for (uint64_t at = lane.part.offset_bytes; at < lane.part.end_bytes(); at += kUnitBytes) {
      const Range sector{at, kUnitBytes};
      const auto holds = [&](const std::string& bytes) {
        return contents.compare(at, kUnitBytes, bytes, 0, kUnitBytes) == 0;
      };
      bool explained = holds(durable.bytes().substr(at, kUnitBytes));
      for (size_t k = lane.flushed; k < lane.requests.size() && !explained; ++k) {
        const Request& request = lane.requests[k];
        if (!request.range.Contains(at)) continue;
        explained = holds(request.pattern == 0 ? std::string(kUnitBytes, '\0')
                                               : PatternBytes(request.pattern, sector));
      }
      if (explained) continue;
      return absl::StrCat("lane ", i, ": ", sector.ToString(), " holds pattern ",
                          PatternAt(contents, at), " instead of ", PatternAt(durable.bytes(), at),
                          ", which was durable, or of one of the ",
                          lane.requests.size() - lane.flushed, " requests after that");
    }
  }
  return "";
}

ByteModel RandomWriter::Model() const {
  ByteModel model = start_;
  for (const auto& lane : lanes_) {
    for (const Request& request : lane->requests) Apply(request, &model);
  }
  return model;
}

size_t RandomWriter::request_count() const {
  size_t sum = 0;
  for (size_t count : Answered()) sum += count;
  return sum;
}

}  // namespace tidemark::test
