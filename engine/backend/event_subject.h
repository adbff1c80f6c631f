// What an event is about, found without knowing each kind of it. Any thread.
#ifndef ENGINE_BACKEND_EVENT_SUBJECT_H_
#define ENGINE_BACKEND_EVENT_SUBJECT_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::backend {

// A case of Event.payload has the number of its kind plus this.
inline constexpr int kPayloadOffset = 20;

// The kind that goes with the payload.
::tidemark::block::v1::EventKind KindOf(const ::tidemark::block::v1::Event& event);

// The job; empty for an event of none. Points into `event`.
absl::string_view JobIdOf(const ::tidemark::block::v1::Event& event);

// Whether the event itself names a node that is wanted.
bool NamesNode(const ::tidemark::block::v1::Event& event,
               absl::FunctionRef<bool(const std::string& node_name)> is_wanted);

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_EVENT_SUBJECT_H_
