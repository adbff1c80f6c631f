#include "engine/format/probe/probe.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace tidemark::probe {
namespace {

// Of a literal that may hold NUL bytes.
template <size_t kSize>
constexpr absl::string_view Whole(const char (&literal)[kSize]) {
  return {literal, kSize - 1};
}

// A mark at one place.
struct Mark {
  const char* format;
  enum class From { kStart, kEnd } from;
  // Counted from the start, or back from the end.
  size_t offset_bytes;
  absl::string_view bytes;
};

constexpr Mark kMarks[] = {
    {"qcow", Mark::From::kStart, 0, Whole("QFI\xfb\0\0\0\1")},
    // Whatever its version, but for that of the row above.
    {"qcow2", Mark::From::kStart, 0, Whole("QFI\xfb")},
    {"qed", Mark::From::kStart, 0, Whole("QED\0")},
    {"vmdk", Mark::From::kStart, 0, Whole("KDMV")},
    {"vmdk", Mark::From::kStart, 0, Whole("COWD")},
    // SEsparse.
    {"vmdk", Mark::From::kStart, 0, Whole("\xbe\xba\xfe\xca\0\0\0\0")},
    {"vdi", Mark::From::kStart, 64, Whole("\x7f\x10\xda\xbe")},
    {"vhdx", Mark::From::kStart, 0, Whole("vhdxfile")},
    {"vpc", Mark::From::kStart, 0, Whole("conectix")},
    // Of fixed size: nothing but a footer, which old programs made a byte too short.
    {"vpc", Mark::From::kEnd, 512, Whole("conectix")},
    {"vpc", Mark::From::kEnd, 511, Whole("conectix")},
    {"parallels", Mark::From::kStart, 0, Whole("WithoutFreeSpace")},
    {"parallels", Mark::From::kStart, 0, Whole("WithouFreSpacExt")},
    {"luks", Mark::From::kStart, 0, Whole("LUKS\xba\xbe")},
    {"bochs", Mark::From::kStart, 0, Whole("Bochs Virtual HD Image")},
    {"cloop", Mark::From::kStart, 0, Whole("#!/bin/sh\n#V2.0 Format\nmodprobe cloop ")},
    {"dmg", Mark::From::kEnd, 512, Whole("koly")},
};

absl::string_view AsText(storage::ConstBytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool IsThere(const Mark& mark, absl::string_view head, absl::string_view tail) {
  if (mark.from == Mark::From::kEnd) {
    return tail.size() >= mark.offset_bytes &&
           absl::StartsWith(tail.substr(tail.size() - mark.offset_bytes), mark.bytes);
  }
  return head.size() >= mark.offset_bytes &&
         absl::StartsWith(head.substr(mark.offset_bytes), mark.bytes);
}

// The text that says where a vmdk's extents are: remarks and empty lines, then a version.
bool IsVmdkDescriptor(absl::string_view text) {
  if (absl::StartsWithIgnoreCase(text, "# Disk DescriptorFile")) return true;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const absl::string_view line = absl::StripAsciiWhitespace(text.substr(0, end));
    if (!line.empty() && line[0] != '#') {
      return line == "version=1" || line == "version=2" || line == "version=3";
    }
    if (end == absl::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  return false;
}

}  // namespace

absl::string_view FormatOf(storage::ConstBytes head_bytes, storage::ConstBytes tail_bytes) {
  const absl::string_view head = AsText(head_bytes);
  const absl::string_view tail = AsText(tail_bytes);
  for (const Mark& mark : kMarks) {
    if (IsThere(mark, head, tail)) return mark.format;
  }
  return IsVmdkDescriptor(head) ? "vmdk" : "";
}

}  // namespace tidemark::probe
