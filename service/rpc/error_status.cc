#include "service/rpc/error_status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

constexpr char kDomain[] = "tidemark";

// Bytes of the UTF-8 character that `text` begins with; 0 if it begins with none.
size_t CharacterLength(absl::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond Unicode.
  if (byte(0) == 0xe0 && byte(1) < 0xa0) return 0;
  if (byte(0) == 0xed && byte(1) >= 0xa0) return 0;
  if (byte(0) == 0xf0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xf4 && byte(1) >= 0x90) return 0;
  return length;
}

// Valid UTF-8 of at most about `bytes_max` bytes.
std::string Presentable(absl::string_view text, size_t bytes_max) {
  std::string clean;
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (clean.size() + length > bytes_max) return clean + "...";
    if (length == 0) {
      clean.push_back('?');
    } else {
      clean.append(text.data(), length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return clean;
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view instance) {
  if (status.ok()) return grpc::Status::OK;
  google::rpc::ErrorInfo info;
  info.set_domain(kDomain);
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  if (details.has_value()) {
    info.set_reason(std::string(NameOf(details->reason)));
    (*info.mutable_metadata())["qmp_class"] = std::string(QmpClassOf(details->reason));
    size_t values = 0;
    for (const auto& [key, value] : details->metadata) {
      if (value.empty() || ++values > kErrorValuesMax) continue;
      (*info.mutable_metadata())[key] = Presentable(value, kErrorValueBytesMax);
    }
  } else {
    info.set_reason(absl::StatusCodeToString(status.code()));
  }
  if (!instance.empty()) {
    (*info.mutable_metadata())["instance"] = Presentable(instance, kErrorValueBytesMax);
  }
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(Presentable(status.message(), kErrorMessageBytesMax));
  rich.add_details()->PackFrom(info);
  // The codes of absl and of gRPC are the same numbers.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), rich.message(),
                      rich.SerializeAsString());
}

void AddSequence(uint64_t sequence, grpc::ServerContextBase* context) {
  context->AddTrailingMetadata(kSequenceKey, absl::StrCat(sequence));
}

grpc::ServerUnaryReactor* FinishUnary(uint64_t position, grpc::CallbackServerContext* context,
                                      const absl::Status& status, absl::string_view instance) {
  AddSequence(position, context);
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, instance));
  return reactor;
}

}  // namespace tidemark::rpc
