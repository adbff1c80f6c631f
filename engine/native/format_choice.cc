#include "engine/native/format_choice.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/probe/probe.h"
#include "engine/format/qcow2/header.h"

namespace tidemark::native {
namespace {

absl::StatusOr<std::vector<std::byte>> ReadAt(storage::Storage& file, uint64_t offset_bytes,
                                              uint64_t length_bytes) {
  std::vector<std::byte> bytes(length_bytes);
  RETURN_IF_ERROR(file.Read(offset_bytes, storage::Bytes(bytes)));
  return bytes;
}

}  // namespace

absl::StatusOr<std::string> ChooseFormat(storage::FileSystem& files, const ProbeRules& rules,
                                         const std::string& path, absl::string_view remedy) {
  // To be looked at only: takes no part in image locks.
  ASSIGN_OR_RETURN(
      const std::shared_ptr<storage::File> file,
      files.Open(path, {.read_only = true, .locking = storage::FileOptions::Locking::kOff}));
  const uint64_t size_bytes = file->file_size_bytes();
  const uint64_t tail_bytes = std::min<uint64_t>(probe::kTailBytes, size_bytes);
  ASSIGN_OR_RETURN(const std::vector<std::byte> head,
                   ReadAt(*file, 0, std::min<uint64_t>(probe::kHeadBytes, size_bytes)));
  ASSIGN_OR_RETURN(const std::vector<std::byte> tail,
                   ReadAt(*file, size_bytes - tail_bytes, tail_bytes));
  const absl::string_view format = probe::FormatOf(head, tail);
  if (format.empty()) return std::string("raw");

  const std::string looks = absl::StrCat("\"", path, "\" looks like a ", format, " image");
  if (!rules.probe_formats) {
    return Error(Reason::kImageFormat,
                 absl::StrCat(looks,
                              ", but nothing says that it is one: a guest may have written "
                              "that to a raw disk; ",
                              remedy),
                 {{"file", path}, {"format", format}});
  }
  if (format != "qcow2") {
    return Error(
        Reason::kFeatureUnsupported,
        absl::StrCat(looks, ", which this engine cannot open; if it is something else, ", remedy),
        {{"file", path}, {"format", format}});
  }
  ASSIGN_OR_RETURN(const qcow2::Header header, qcow2::ReadHeader(*file));
  if (!header.backing_file.empty()) {
    return Error(Reason::kImageFormat,
                 absl::StrCat(looks, " that names the backing file \"", header.backing_file,
                              "\", which is not opened by a guess; ", remedy),
                 {{"file", path}, {"format", format}});
  }
  return std::string(format);
}

}  // namespace tidemark::native
