// A file is a row of records: length (4 bytes), CRC-32 of what follows (4 bytes), both big-endian,
// and an Event in protobuf's encoding.
#include "service/event_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark {
namespace {

using backend::Event;
using backend::EventPtr;

constexpr size_t kHeaderBytes = 8;
// No event is larger; a length beyond it is damage.
constexpr uint32_t kEventBytesMax = 1 << 20;

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return Error(Reason::kIoError, absl::StrCat(what, " '", path, "': ", std::strerror(errno)),
               {{"file", path}});
}

uint32_t Checksum(absl::string_view bytes) {
  return static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

std::string Record(const Event& event) {
  const std::string body = event.SerializeAsString();
  std::string record(kHeaderBytes, '\0');
  StoreBigEndian(record.data(), static_cast<uint32_t>(body.size()));
  StoreBigEndian(record.data() + 4, Checksum(body));
  return record + body;
}

// Adds the events of a file and returns how many bytes of it are whole. A file that is not there is
// empty.
size_t ReadFile(const std::string& path, std::vector<EventPtr>* events) {
  std::ifstream stream(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)),
                          std::istreambuf_iterator<char>());
  size_t at = 0;
  while (bytes.size() - at >= kHeaderBytes) {
    const uint32_t length = LoadBigEndian<uint32_t>(bytes.data() + at);
    const uint32_t checksum = LoadBigEndian<uint32_t>(bytes.data() + at + 4);
    if (length > kEventBytesMax || bytes.size() - at - kHeaderBytes < length) break;
    const absl::string_view body(bytes.data() + at + kHeaderBytes, length);
    auto event = std::make_shared<Event>();
    if (Checksum(body) != checksum ||
        !event->ParseFromArray(body.data(), static_cast<int>(length))) {
      break;
    }
    events->push_back(std::move(event));
    at += kHeaderBytes + length;
  }
  return at;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventFile>> EventFile::Open(const std::string& folder,
                                                           size_t file_bytes_max) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return SystemError("Cannot make the state folder", folder);
  }
  const std::string path = folder + "/lock";
  const int lock = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return SystemError("Cannot use the state folder", folder);
  auto file = std::unique_ptr<EventFile>(new EventFile(folder, lock, file_bytes_max));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("Cannot use the state folder '", folder, "': another daemon has it"));
  }
  return file;
}

EventFile::~EventFile() {
  if (file_ >= 0) close(file_);
  close(lock_);
}

absl::StatusOr<std::vector<EventPtr>> EventFile::Load() {
  std::vector<EventPtr> events;
  ReadFile(previous_path(), &events);
  file_bytes_ = ReadFile(current_path(), &events);
  file_ = open(current_path().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file_ < 0 || ftruncate(file_, static_cast<off_t>(file_bytes_)) != 0) {
    return SystemError("Cannot open", current_path());
  }
  return events;
}

void EventFile::Save(const std::vector<EventPtr>& events) {
  std::string bytes;
  for (const EventPtr& event : events) {
    if (!event->has_job_progress()) bytes += Record(*event);
  }
  if (bytes.empty() || file_ < 0) return;
  if (file_bytes_ + bytes.size() > file_bytes_max_ && file_bytes_ > 0) {
    close(file_);
    std::rename(current_path().c_str(), previous_path().c_str());
    file_ = open(current_path().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    file_bytes_ = 0;
    if (file_ < 0) return;
  }
  const ssize_t written = write(file_, bytes.data(), bytes.size());
  if (written == static_cast<ssize_t>(bytes.size())) {
    file_bytes_ += bytes.size();
    return;
  }
  // A full disk. Later events must not follow a hole as if nothing were missing: begin anew.
  GiveUp();
}

void EventFile::GiveUp() {
  unlink(previous_path().c_str());
  file_bytes_ = 0;
  if (file_ >= 0 && ftruncate(file_, 0) != 0) {
    close(file_);
    file_ = -1;
    unlink(current_path().c_str());
  }
}

}  // namespace tidemark
