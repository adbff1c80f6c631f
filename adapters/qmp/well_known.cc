#include "adapters/qmp/well_known.h"

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "google/protobuf/util/time_util.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::Duration;
using google::protobuf::Timestamp;
using google::protobuf::util::TimeUtil;

}  // namespace

bool IsWellKnown(const google::protobuf::Descriptor& type) {
  return type.full_name() == Duration::descriptor()->full_name() ||
         type.full_name() == Timestamp::descriptor()->full_name();
}

std::string WellKnownToText(const google::protobuf::Message& message) {
  // Through the wire, for a message may be of a class made at run time.
  if (message.GetDescriptor()->full_name() == Duration::descriptor()->full_name()) {
    Duration duration;
    duration.ParseFromString(message.SerializeAsString());
    return TimeUtil::ToString(duration);
  }
  Timestamp time;
  time.ParseFromString(message.SerializeAsString());
  return TimeUtil::ToString(time);
}

bool WellKnownFromText(absl::string_view text, google::protobuf::Message* message) {
  if (message->GetDescriptor()->full_name() == Duration::descriptor()->full_name()) {
    absl::Duration parsed;
    if (!absl::ParseDuration(text, &parsed)) return false;
    Duration duration;
    const int64_t seconds = absl::IDivDuration(parsed, absl::Seconds(1), &parsed);
    const int64_t nanoseconds = absl::ToInt64Nanoseconds(parsed);
    if (seconds < TimeUtil::kDurationMinSeconds || seconds > TimeUtil::kDurationMaxSeconds) {
      return false;
    }
    duration.set_seconds(seconds);
    duration.set_nanos(static_cast<int32_t>(nanoseconds));
    return message->ParseFromString(duration.SerializeAsString());
  }
  Timestamp time;
  return TimeUtil::FromString(std::string(text), &time) &&
         message->ParseFromString(time.SerializeAsString());
}

std::string WellKnownForm(const google::protobuf::Descriptor& type) {
  return type.full_name() == Duration::descriptor()->full_name()
             ? "a duration such as \"1.5s\""
             : "a time such as \"2026-03-01T12:00:00Z\"";
}

}  // namespace tidemark::qmp
