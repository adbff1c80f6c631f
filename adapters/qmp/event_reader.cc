#include "adapters/qmp/event_reader.h"

#include <map>
#include <string>
#include <utility>

#include "engine/backend/event_subject.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using google::protobuf::FieldDescriptor;

// An event without a usable time gets that of its arrival. The end of the year 9999, as protobuf's
// times have it.
constexpr int64_t kSecondsMax = 253'402'300'799;

using Payloads = std::map<std::string, const FieldDescriptor*>;

const Payloads& PayloadsByEvent() {
  static const Payloads* const payloads = [] {
    auto* const made = new Payloads;
    const auto& event = *v1::Event::descriptor();
    for (int i = 0; i < event.field_count(); ++i) {
      const FieldDescriptor& field = *event.field(i);
      if (field.real_containing_oneof() == nullptr) continue;
      const std::string& name = field.message_type()->options().GetExtension(::qmp::event);
      if (!name.empty()) made->emplace(name, &field);
    }
    return made;
  }();
  return *payloads;
}

void ReadTime(const Json& json, backend::Event* event) {
  const auto timestamp = json.find("timestamp");
  if (timestamp == json.end() || !timestamp->is_object()) return;
  const auto seconds = timestamp->find("seconds");
  const auto microseconds = timestamp->find("microseconds");
  if (seconds == timestamp->end() || !seconds->is_number_integer() ||
      microseconds == timestamp->end() || !microseconds->is_number_integer()) {
    return;
  }
  // QEMU sends -1 if it could not read its clock.
  const int64_t whole = seconds->get<int64_t>();
  const int64_t rest = microseconds->get<int64_t>();
  if (whole < 0 || whole > kSecondsMax || rest < 0 || rest >= 1'000'000) return;
  event->mutable_time()->set_seconds(whole);
  event->mutable_time()->set_nanos(static_cast<int32_t>(rest * 1'000));
}

}  // namespace

absl::StatusOr<absl::optional<backend::Event>> ReadEvent(const Json& json,
                                                         uint64_t* unknown_count) {
  static const Json no_data = Json::object();
  const auto name = json.find("event");
  if (name == json.end() || !name->is_string()) {
    return Error(Reason::kInvalidField, "event: has no name");
  }
  const auto payload = PayloadsByEvent().find(name->get<std::string>());
  if (payload == PayloadsByEvent().end()) return absl::optional<backend::Event>();
  backend::Event event;
  ReadTime(json, &event);
  const auto data = json.find("data");
  RETURN_IF_ERROR(FromJson(data == json.end() ? no_data : *data, Strictness::kReply,
                           event.GetReflection()->MutableMessage(&event, payload->second),
                           unknown_count));
  return absl::optional<backend::Event>(std::move(event));
}

std::vector<v1::EventKind> KindsOf(const Schema& schema) {
  std::vector<v1::EventKind> kinds;
  const auto& event = *v1::Event::descriptor();
  for (int i = 0; i < event.field_count(); ++i) {
    const FieldDescriptor& field = *event.field(i);
    if (field.real_containing_oneof() == nullptr) continue;
    const auto& options = field.message_type()->options();
    const std::string& name = options.GetExtension(::qmp::event);
    if (options.GetExtension(::qmp::local_event) || schema.FindEvent(name) != nullptr) {
      kinds.push_back(static_cast<v1::EventKind>(field.number() - backend::kPayloadOffset));
    }
  }
  return kinds;
}

}  // namespace tidemark::qmp
