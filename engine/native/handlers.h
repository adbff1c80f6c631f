// Which function obeys which command: a table by request type, filled once by the command files
// (node_commands.h, ...). Constant after that; any thread.
#ifndef ENGINE_NATIVE_HANDLERS_H_
#define ENGINE_NATIVE_HANDLERS_H_

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/base/check.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::native {

class Handlers {
 public:
  using Done = std::function<void(absl::Status)>;
  // Runs on the thread of the command's kind (native_backend.h). Calls `done` exactly once.
  using Handler = std::function<void(const google::protobuf::Message& request,
                                     google::protobuf::Message* response, Done done)>;

  // A command that is over when its function returns. `function` is called as
  // absl::Status(const Request&, Response*).
  template <typename Request, typename Response, typename Function>
  void Add(Function function) {
    AddLater<Request, Response>(
        [function = std::move(function)](const Request& request, Response* response, Done done) {
          done(function(request, response));
        });
  }

  // A command that calls `done` when it pleases: void(const Request&, Response*, Done).
  template <typename Request, typename Response, typename Function>
  void AddLater(Function function) {
    const bool added = by_request_
                           .emplace(Request::descriptor(),
                                    [function = std::move(function)](
                                        const google::protobuf::Message& request,
                                        google::protobuf::Message* response, Done done) {
                                      function(static_cast<const Request&>(request),
                                               static_cast<Response*>(response), std::move(done));
                                    })
                           .second;
    CHECK(added);
  }

  // Null if nothing obeys requests of this type.
  const Handler* Find(const google::protobuf::Descriptor* request) const {
    const auto found = by_request_.find(request);
    return found == by_request_.end() ? nullptr : &found->second;
  }

 private:
  absl::flat_hash_map<const google::protobuf::Descriptor*, Handler> by_request_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_HANDLERS_H_
