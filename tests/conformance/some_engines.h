// The stage of scenarios of commands that not every engine has. On one that lacks the command, all
// that there is to tell is that a good request for it is refused by name.
#ifndef TESTS_CONFORMANCE_SOME_ENGINES_H_
#define TESTS_CONFORMANCE_SOME_ENGINES_H_

#include <google/protobuf/text_format.h>

#include <map>
#include <string>

#include "tests/conformance/conformance.h"

namespace tidemark::test {

// A request as protobuf's text format spells it.
template <class Request>
Request Parse(const std::string& text) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

class SomeEngines : public Conformance {
 protected:
  // What GetCapabilities says of the command; if it has none, expects that `request` is refused for
  // that, and returns false.
  template <class Request>
  bool Has(const Request& request) {
    if (methods_.empty()) {
      const auto capabilities = operate().Do(v1::GetCapabilitiesRequest());
      for (const auto& command : capabilities.commands()) {
        methods_[command.method()] = command.command();
      }
    }
    if (methods_.count(RpcOf<Request>::kPath) == 1) return true;
    ExpectRefused(request, v1::ERROR_REASON_COMMAND_UNSUPPORTED, {});
    return false;
  }

  // Events of one kind so far.
  std::vector<v1::Event> EventsOf(v1::EventKind kind) {
    std::vector<v1::Event> found;
    for (const v1::Event& event : events().events()) {
      if (event.kind() == kind) found.push_back(event);
    }
    return found;
  }
  // Waits for so many of them.
  bool AwaitEvents(v1::EventKind kind, size_t count) {
    return events().WaitUntil([&](const std::vector<v1::Event>& all) {
      size_t found = 0;
      for (const v1::Event& event : all) found += event.kind() == kind ? 1 : 0;
      return found >= count;
    });
  }

 private:
  // QMP's names, by RPC.
  std::map<std::string, std::string> methods_;
};

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_SOME_ENGINES_H_
