// A change that was made, or reserved, and can still be taken back. Engine thread only.
//
// Exactly one of commit and undo is called, or the change is dropped, which keeps what was made
// (and loses what was only reserved, so call commit). Undo in the reverse order of the changes, and
// before the gates that were closed for them are opened.
#ifndef ENGINE_GRAPH_CHANGE_H_
#define ENGINE_GRAPH_CHANGE_H_

#include "absl/functional/any_invocable.h"

namespace tidemark::graph {

struct Change {
  absl::AnyInvocable<void()> commit = [] {};
  absl::AnyInvocable<void()> undo = [] {};
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_CHANGE_H_
