#include "adapters/qmp/wait_guard.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "adapters/qmp/json.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/blockdev_network.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr absl::string_view kPrefix = "json:";
constexpr absl::string_view kWaits[] = {"open-timeout", "timeout"};

// What the typed option allows is what counts here, too.
int64_t SecondsMax() {
  const auto* const field = v1::BlockdevOptionsNbd::descriptor()->FindFieldByName("open_timeout");
  return field->options().GetExtension(::qmp::check).max();
}

// "file.open-timeout" is the same as "open-timeout" in the object "file".
bool IsWait(absl::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot != name.npos) name.remove_prefix(dot + 1);
  return std::find(std::begin(kWaits), std::end(kWaits), name) != std::end(kWaits);
}

// QEMU takes numbers in strings as well.
bool IsShort(const Json& value) {
  uint64_t seconds = 0;
  if (const auto* const text = value.get_ptr<const Json::string_t*>()) {
    return absl::SimpleAtoi(*text, &seconds) && seconds <= static_cast<uint64_t>(SecondsMax());
  }
  return value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(SecondsMax());
}

absl::Status CheckOptions(absl::string_view text) {
  const absl::StatusOr<Json> options = ParseJson(text);
  if (!options.ok()) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("A name of the form 'json:...' is passed on only if it is JSON that "
                              "can be looked through, with double quotes: ",
                              options.status().message()));
  }
  std::vector<const Json*> open = {&*options};
  while (!open.empty()) {
    const Json& value = *open.back();
    open.pop_back();
    if (!value.is_structured()) continue;
    for (const auto& [name, member] : value.items()) {
      if (value.is_object() && IsWait(name) && !IsShort(member)) {
        return Error(Reason::kInvalidField,
                     absl::StrCat("Option '", name,
                                  "' in a name of the form 'json:...' is more "
                                  "than ",
                                  SecondsMax(),
                                  " seconds, for which QEMU would answer "
                                  "nothing else"),
                     {{"option", name}});
      }
      open.push_back(&member);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWaits(const google::protobuf::Message& request) {
  return backend::CheckPaths(request, [](absl::string_view name, ::qmp::Path use) {
    if (use == ::qmp::PATH_RECORDED || !absl::ConsumePrefix(&name, kPrefix)) {
      return absl::OkStatus();
    }
    return CheckOptions(name);
  });
}

}  // namespace tidemark::qmp
