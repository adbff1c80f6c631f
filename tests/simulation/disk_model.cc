#include "tests/simulation/disk_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tidemark::simulation {
namespace {

constexpr int kSectorBits = 24;

std::string NameOf(Moment moment) {
  return moment == kNever ? std::string("never") : absl::StrCat(moment);
}

}  // namespace

DiskModel::DiskModel(uint64_t size_bytes) { Resize(size_bytes); }

void DiskModel::Resize(uint64_t size_bytes) {
  CHECK(size_bytes % kSectorBytes == 0);
  marks_.resize(size_bytes / kSectorBytes);
  touched_by_.resize(size_bytes / kSectorBytes);
}

uint64_t DiskModel::MarkOf(int request, uint64_t sector, Kind kind) {
  if (kind != Kind::kWrite) return 0;
  return static_cast<uint64_t>(request + 1) << kSectorBits | sector;
}

bool DiskModel::ReadMark(storage::ConstBytes sector, uint64_t* mark) {
  std::memcpy(mark, sector.data(), sizeof(*mark));
  return std::memcmp(sector.data(), sector.data() + sizeof(*mark), sector.size() - sizeof(*mark)) ==
         0;
}

int DiskModel::Begin(Kind kind, Range range, Moment now) {
  CHECK(range.offset_bytes % kSectorBytes == 0 && range.length_bytes % kSectorBytes == 0);
  CHECK(range.end_bytes() <= size_bytes());
  requests_.push_back({.kind = kind, .range = range, .began = now});
  const int number = static_cast<int>(requests_.size()) - 1;
  for (uint64_t s = range.offset_bytes / kSectorBytes; s < range.end_bytes() / kSectorBytes; ++s) {
    touched_by_[s].push_back(number);
  }
  return number;
}

std::string DiskModel::DataOf(int request) const {
  const Range range = requests_[request].range;
  std::string data(range.length_bytes, '\0');
  for (uint64_t at = 0; at < range.length_bytes; at += kSectorBytes) {
    const uint64_t mark =
        MarkOf(request, (range.offset_bytes + at) / kSectorBytes, requests_[request].kind);
    for (uint64_t word = 0; word < kSectorBytes; word += sizeof(mark)) {
      std::memcpy(&data[at + word], &mark, sizeof(mark));
    }
  }
  return data;
}

void DiskModel::End(int request, bool well, Moment now) {
  requests_[request].ended = now;
  requests_[request].well = well;
}

void DiskModel::NoteFlush(Moment began) { durable_until_ = std::max(durable_until_, began); }

DiskModel::Span DiskModel::SpanOf(uint64_t sector, uint64_t mark, Moment from, Moment to,
                                  Moment certain_until) const {
  const std::vector<int>& touched = touched_by_[sector];
  Span span;
  const auto consider = [&](int request, Moment began, Moment ended) {
    // Shown from when it began until something certain took its place.
    Moment until = to;
    for (const int other : touched) {
      const Request& later = requests_[other];
      if (!later.Certain() || later.began <= ended || later.ended >= certain_until) continue;
      until = std::min(until, later.ended);
    }
    const Moment since = std::max(began, from);
    if (since > until) return;
    span.from = std::min(span.from, since);
    span.to = std::max(span.to, until);
    span.request = request;
    ++span.count;
  };
  if (marks_[sector] == mark) consider(-1, 0, 0);
  for (const int number : touched) {
    const Request& request = requests_[number];
    if (MarkOf(number, sector, request.kind) != mark || request.began > to) continue;
    consider(number, request.began, request.ended);
  }
  return span;
}

std::string DiskModel::Describe(uint64_t sector, storage::ConstBytes data) const {
  uint64_t mark = 0;
  const bool whole = ReadMark(data, &mark);
  std::string text = absl::StrCat(
      "sector ", sector, " (byte ", sector * kSectorBytes, ") holds ",
      !whole ? std::string("a mixture")
      : mark == 0
          ? std::string("zeroes")
          : absl::StrCat("the mark of request ", static_cast<int64_t>(mark >> kSectorBits) - 1,
                         " for sector ", mark & ((1u << kSectorBits) - 1)),
      "; before all requests ", static_cast<int64_t>(marks_[sector] >> kSectorBits) - 1);
  for (const int number : touched_by_[sector]) {
    const Request& request = requests_[number];
    constexpr const char* kNames[] = {"write", "zeroes", "discard"};
    absl::StrAppend(&text, "\n    request ", number, " ", kNames[static_cast<int>(request.kind)],
                    " of ", request.range.offset_bytes, "+", request.range.length_bytes, " from ",
                    request.began, " to ", NameOf(request.ended), request.well ? "" : ", not well");
  }
  return text;
}

std::string DiskModel::JudgeRead(uint64_t offset_bytes, storage::ConstBytes data, Moment from,
                                 Moment to) const {
  for (uint64_t at = 0; at < data.size(); at += kSectorBytes) {
    const uint64_t sector = (offset_bytes + at) / kSectorBytes;
    const storage::ConstBytes bytes = data.subspan(at, kSectorBytes);
    uint64_t mark = 0;
    if (ReadMark(bytes, &mark) && !SpanOf(sector, mark, from, to, kNever).empty()) continue;
    return absl::StrCat("a read between ", from, " and ", to, ": ", Describe(sector, bytes));
  }
  return "";
}

std::string DiskModel::JudgeInstant(storage::ConstBytes data, Moment from, Moment to, bool gated,
                                    const std::vector<bool>& skip) const {
  Moment lower = from;
  Moment upper = to;
  uint64_t lower_sector = 0;
  uint64_t upper_sector = 0;
  // Requests that are seen, and that are certain not to be there yet.
  std::vector<int64_t> seen_at(requests_.size(), -1);
  std::vector<int64_t> missing_at(requests_.size(), -1);
  for (uint64_t sector = 0; sector * kSectorBytes < data.size(); ++sector) {
    if (sector < skip.size() && skip[sector]) continue;
    const storage::ConstBytes bytes = data.subspan(sector * kSectorBytes, kSectorBytes);
    uint64_t mark = 0;
    const Span span = ReadMark(bytes, &mark) ? SpanOf(sector, mark, from, to, kNever) : Span();
    if (span.empty()) {
      return absl::StrCat("an instant between ", from, " and ", to, ": ", Describe(sector, bytes));
    }
    if (span.from > lower) lower = span.from, lower_sector = sector;
    if (span.to < upper) upper = span.to, upper_sector = sector;
    if (span.count != 1) continue;
    if (span.request >= 0) seen_at[span.request] = sector;
    const Moment ended = span.request < 0 ? 0 : requests_[span.request].ended;
    for (const int other : touched_by_[sector]) {
      if (requests_[other].Certain() && requests_[other].began > ended) missing_at[other] = sector;
    }
  }
  if (lower > upper) {
    return absl::StrCat(
        "there is no instant between ", from, " and ", to, " at which all of this was there: ",
        Describe(lower_sector, data.subspan(lower_sector * kSectorBytes, kSectorBytes)), "\n  but ",
        Describe(upper_sector, data.subspan(upper_sector * kSectorBytes, kSectorBytes)));
  }
  for (size_t i = 0; gated && i < requests_.size(); ++i) {
    if (seen_at[i] < 0 || missing_at[i] < 0) continue;
    return absl::StrCat("request ", i, " is there by half at the instant: seen in sector ",
                        seen_at[i], ", missing in sector ", missing_at[i]);
  }
  return "";
}

std::string DiskModel::JudgeCrash(storage::ConstBytes data, Moment now) const {
  for (uint64_t sector = 0; sector * kSectorBytes < data.size(); ++sector) {
    const storage::ConstBytes bytes = data.subspan(sector * kSectorBytes, kSectorBytes);
    uint64_t mark = 0;
    if (ReadMark(bytes, &mark) && !SpanOf(sector, mark, now, now, durable_until_).empty()) continue;
    return absl::StrCat("after a loss of power at ", now, ", all before ", durable_until_,
                        " being durable: ", Describe(sector, bytes));
  }
  return "";
}

void DiskModel::Restart(storage::ConstBytes data) {
  Resize(data.size());
  for (uint64_t sector = 0; sector < marks_.size(); ++sector) {
    ReadMark(data.subspan(sector * kSectorBytes, kSectorBytes), &marks_[sector]);
    touched_by_[sector].clear();
  }
  // The numbers go on: no two requests have the same mark.
}

void DiskModel::AddChanged(Moment from, Moment to, std::vector<bool>* changed) const {
  for (const Request& request : requests_) {
    if (!request.Certain() || request.began < from || request.ended > to) continue;
    const uint64_t end =
        std::min<uint64_t>(request.range.end_bytes() / kSectorBytes, changed->size());
    for (uint64_t s = request.range.offset_bytes / kSectorBytes; s < end; ++s) (*changed)[s] = true;
  }
}

}  // namespace tidemark::simulation
