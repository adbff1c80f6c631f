#include "tests/support/guest.h"

#include <gtest/gtest.h>
#include <libnbd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tidemark::test {
namespace {

struct ExtentSink {
  std::string context;
  std::vector<Extent> extents;
};

int TakeExtents(void* user_data, const char* context, uint64_t offset, uint32_t* entries,
                size_t entry_count, int* /*error*/) {
  auto* sink = static_cast<ExtentSink*>(user_data);
  if (sink->context != context) return 0;
  for (size_t i = 0; i + 1 < entry_count; i += 2) {
    sink->extents.push_back({{offset, entries[i]}, entries[i + 1]});
    offset += entries[i];
  }
  return 0;
}

int TakeExport(void* user_data, const char* name, const char* description) {
  static_cast<std::vector<std::string>*>(user_data)->push_back(
      absl::StrCat(name, " (", description, ")"));
  return 0;
}

}  // namespace

Guest::Guest(const NbdPlace& place, std::shared_ptr<ByteModel> model,
             const std::vector<std::string>& contexts)
    : model_(std::move(model)), handle_(nbd_create()) {
  CHECK(handle_ != nullptr);
  nbd_set_export_name(handle_, place.export_name.c_str());
  for (const std::string& context : contexts) nbd_add_meta_context(handle_, context.c_str());
  connected_ = nbd_connect_unix(handle_, place.socket.c_str()) == 0;
  if (!connected_) error_ = nbd_get_error();
}

Guest::~Guest() {
  if (connected_) nbd_shutdown(handle_, 0);
  nbd_close(handle_);
}

int Guest::TryWrite(uint64_t pattern, Range range, bool force_unit_access) {
  const std::string bytes = PatternBytes(pattern, range);
  if (nbd_pwrite(handle_, bytes.data(), bytes.size(), range.offset_bytes,
                 force_unit_access ? LIBNBD_CMD_FLAG_FUA : 0) != 0) {
    return nbd_get_errno();
  }
  model_->Write(pattern, range);
  return 0;
}

int Guest::TryRead(Range range) {
  std::string bytes(range.length_bytes, '\0');
  const int result = nbd_pread(handle_, bytes.data(), bytes.size(), range.offset_bytes, 0);
  return result == 0 ? 0 : nbd_get_errno();
}

int Guest::TryZero(Range range) {
  if (nbd_zero(handle_, range.length_bytes, range.offset_bytes, 0) != 0) return nbd_get_errno();
  model_->Zero(range);
  return 0;
}

int Guest::TryFlush() { return nbd_flush(handle_, 0) == 0 ? 0 : nbd_get_errno(); }

void Guest::Write(uint64_t pattern, Range range) {
  EXPECT_EQ(TryWrite(pattern, range), 0) << "writing " << range << ": " << nbd_get_error();
}

void Guest::Zero(Range range) {
  EXPECT_EQ(TryZero(range), 0) << "zeroing " << range << ": " << nbd_get_error();
}

void Guest::Trim(Range range) {
  EXPECT_EQ(nbd_trim(handle_, range.length_bytes, range.offset_bytes, 0), 0)
      << "trimming " << range << ": " << nbd_get_error();
  const std::string now = Read(range);
  const std::string old = model_->bytes().substr(range.offset_bytes, range.length_bytes);
  const std::string zeroes(range.length_bytes, '\0');
  for (Range changed : Differences(old, now)) {
    EXPECT_EQ(now.substr(changed.offset_bytes, changed.length_bytes),
              zeroes.substr(0, changed.length_bytes))
        << "trimmed " << range << " reads neither old data nor zeroes in " << changed;
    model_->Zero({range.offset_bytes + changed.offset_bytes, changed.length_bytes});
  }
}

void Guest::Flush() { EXPECT_EQ(TryFlush(), 0) << nbd_get_error(); }

std::string Guest::Read(Range range) {
  std::string bytes(range.length_bytes, '\0');
  // Large reads are cut: servers refuse more than 32 MiB.
  constexpr uint64_t kReadBytes = 8 * kMiB;
  for (uint64_t at = 0; at < range.length_bytes; at += kReadBytes) {
    const uint64_t length = std::min(kReadBytes, range.length_bytes - at);
    EXPECT_EQ(nbd_pread(handle_, bytes.data() + at, length, range.offset_bytes + at, 0), 0)
        << "reading " << range << ": " << nbd_get_error();
  }
  return bytes;
}

std::string Guest::ReadAll() { return Read({0, size_bytes()}); }

std::vector<Extent> Guest::Extents(const std::string& context) {
  ExtentSink sink{context, {}};
  const uint64_t size = size_bytes();
  uint64_t at = 0;
  while (at < size) {
    nbd_extent_callback callback = {TakeExtents, &sink, nullptr};
    const size_t before = sink.extents.size();
    if (nbd_block_status(handle_, size - at, at, callback, 0) != 0 ||
        sink.extents.size() == before) {
      ADD_FAILURE() << "status of " << context << " at " << at << ": " << nbd_get_error();
      break;
    }
    at = sink.extents.back().range.end_bytes();
  }
  std::vector<Extent> merged;
  for (const Extent& extent : sink.extents) {
    if (!merged.empty() && merged.back().flags == extent.flags) {
      merged.back().range.length_bytes += extent.range.length_bytes;
    } else {
      merged.push_back(extent);
    }
  }
  return merged;
}

Ranges Guest::ExtentsWith(const std::string& context, uint32_t mask) {
  Ranges ranges;
  for (const Extent& extent : Extents(context)) {
    if ((extent.flags & mask) == mask) ranges.push_back(extent.range.Intersect({0, size_bytes()}));
  }
  return Merged(std::move(ranges));
}

uint64_t Guest::size_bytes() const {
  const int64_t size = nbd_get_size(handle_);
  return size < 0 ? 0 : static_cast<uint64_t>(size);
}

std::vector<std::string> ListExports(const std::string& socket) {
  std::vector<std::string> names;
  nbd_handle* handle = nbd_create();
  CHECK(handle != nullptr);
  nbd_set_opt_mode(handle, true);
  nbd_list_callback callback = {TakeExport, &names, nullptr};
  if (nbd_connect_unix(handle, socket.c_str()) != 0 || nbd_opt_list(handle, callback) < 0) {
    names = {nbd_get_error()};
  }
  nbd_opt_abort(handle);
  nbd_close(handle);
  return names;
}

}  // namespace tidemark::test
