#include "engine/base/mount_table.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace tidemark {
namespace {

// A table of this many bytes is more than any host has; the rest would be left out.
constexpr size_t kMountInfoBytesMax = 4 << 20;

// Spaces and the like are written as \040.
std::string Unescape(absl::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() ? text[at] - '0' : -1; };
    const auto is_octal = [&](size_t at) { return digit(at) >= 0 && digit(at) <= 7; };
    if (text[i] == '\\' && is_octal(i + 1) && is_octal(i + 2) && is_octal(i + 3)) {
      plain.push_back(static_cast<char>(digit(i + 1) * 64 + digit(i + 2) * 8 + digit(i + 3)));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

}  // namespace

MountTable::MountTable(const std::string& mountinfo_path)
    : fd_(open(mountinfo_path.c_str(), O_RDONLY | O_CLOEXEC)) {}

MountTable::~MountTable() {
  if (fd_ >= 0) close(fd_);
}

std::vector<std::string> MountTable::Parse(absl::string_view mountinfo) {
  constexpr size_t kMountPointField = 4;
  std::vector<std::string> mount_points;
  for (const absl::string_view line : absl::StrSplit(mountinfo, '\n')) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ' ');
    if (fields.size() <= kMountPointField || !absl::StartsWith(fields[kMountPointField], "/")) {
      continue;
    }
    mount_points.push_back(Unescape(fields[kMountPointField]));
  }
  return mount_points;
}

void MountTable::ReadIfChanged() {
  if (fd_ < 0) return;
  // The kernel reports a change of the table as an error, once.
  pollfd watched = {.fd = fd_, .events = POLLPRI, .revents = 0};
  const bool changed = poll(&watched, 1, 0) > 0 && (watched.revents & (POLLERR | POLLPRI)) != 0;
  if (read_ && !changed) return;
  read_ = true;
  std::string text;
  char buffer[16384];
  for (ssize_t got;
       text.size() < kMountInfoBytesMax &&
       (got = pread(fd_, buffer, sizeof(buffer), static_cast<off_t>(text.size()))) > 0;) {
    text.append(buffer, static_cast<size_t>(got));
  }
  mount_points_ = Parse(text);
}

std::string MountTable::MountPointOf(absl::string_view path) {
  ReadIfChanged();
  absl::string_view longest = "/";
  for (const std::string& mount_point : mount_points_) {
    if (mount_point.size() <= longest.size() || !absl::StartsWith(path, mount_point)) continue;
    if (path.size() == mount_point.size() || path[mount_point.size()] == '/') longest = mount_point;
  }
  return std::string(longest);
}

}  // namespace tidemark
