#include "service/rpc/error_status.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

constexpr char kDomain[] = "tidemark";
constexpr char kQemuTextKey[] = "qmp_desc";

// How many bytes HTTP/2 takes for `text` in a status message.
size_t EncodedSize(absl::string_view text) {
  size_t size = 0;
  for (const char c : text) size += c >= ' ' && c <= '~' && c != '%' ? 1 : 3;
  return size;
}

size_t PlainSize(absl::string_view text) { return text.size(); }

// Valid UTF-8 of which `size_of` says at most `size_max`; cut between characters.
std::string Presentable(absl::string_view text, size_t size_max,
                        size_t (*size_of)(absl::string_view) = &PlainSize) {
  constexpr absl::string_view kCut = "...";
  std::string clean;
  size_t size = 0;
  // Where a text that turns out too long is cut.
  size_t cut_at = 0;
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    const absl::string_view character = length == 0 ? "?" : text.substr(0, length);
    size += size_of(character);
    if (size > size_max) return clean.substr(0, cut_at).append(kCut.data(), kCut.size());
    clean.append(character.data(), character.size());
    if (size + kCut.size() <= size_max) cut_at = clean.size();
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return clean;
}

// The same of a text whose end says the most: "Could not open '/a/long/path': No such file". What
// is cut is in its middle.
std::string PresentableEnds(absl::string_view text, size_t size_max) {
  constexpr size_t kTailBytesMax = 160;
  if (text.size() <= size_max) return Presentable(text, size_max);
  absl::string_view tail = text.substr(text.size() - kTailBytesMax);
  // Not from the middle of a character.
  for (int i = 0; i < 3 && (tail[0] & 0xc0) == 0x80; ++i) tail.remove_prefix(1);
  return absl::StrCat(Presentable(text, size_max - kTailBytesMax),
                      Presentable(tail, kTailBytesMax));
}

// The error as clients with google.rpc see it. Metadata beyond what a status may hold is left out.
google::rpc::Status Rich(const absl::Status& status, const google::rpc::ErrorInfo& whole,
                         const std::vector<std::pair<std::string, std::string>>& metadata) {
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(Presentable(status.message(), kErrorMessageEncodedBytesMax, &EncodedSize));
  google::rpc::ErrorInfo info = whole;
  rich.add_details()->PackFrom(info);
  for (const auto& [key, value] : metadata) {
    google::rpc::ErrorInfo longer_info = info;
    (*longer_info.mutable_metadata())[key] = PresentableEnds(value, kErrorValueBytesMax);
    google::rpc::Status longer = rich;
    longer.mutable_details(0)->PackFrom(longer_info);
    if (longer.ByteSizeLong() > kErrorDetailsBytesMax) continue;
    info = std::move(longer_info);
    rich = std::move(longer);
  }
  return rich;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view instance) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  std::vector<std::pair<std::string, std::string>> metadata;
  if (!instance.empty()) metadata.emplace_back("instance", instance);
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  if (details.has_value()) {
    info.set_reason(std::string(NameOf(details->reason)));
    (*info.mutable_metadata())["qmp_class"] = std::string(QmpClassOf(details->reason));
    std::vector<std::pair<std::string, std::string>> values = details->metadata;
    // What QEMU itself said comes before what it was said of, if not all can be told.
    std::stable_partition(values.begin(), values.end(),
                          [](const auto& value) { return value.first == kQemuTextKey; });
    size_t count = 0;
    for (const auto& [key, value] : values) {
      if (value.empty() || (key == "instance" && !instance.empty())) continue;
      if (++count > kErrorValuesMax) break;
      metadata.emplace_back(key, value);
    }
  } else {
    info.set_reason(absl::StatusCodeToString(status.code()));
  }
  const google::rpc::Status rich = Rich(status, info, metadata);
  // The codes of absl and of gRPC are the same numbers.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), rich.message(),
                      rich.SerializeAsString());
}

void AddTrailers(const backend::EventLog& log, uint64_t sequence,
                 grpc::ServerContextBase* context) {
  context->AddTrailingMetadata(kSequenceKey, absl::StrCat(sequence));
  context->AddTrailingMetadata(kLogKey, log.id());
  if (sequence > log.saved()) context->AddTrailingMetadata(kUnsavedKey, "true");
}

}  // namespace tidemark::rpc
