// A line of any bytes from a monitor: read, and taken for the answer of the command that its first
// byte chooses.
#include <memory>

#include "absl/strings/string_view.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/message.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/command.h"
#include "engine/base/check.h"
#include "google/protobuf/message.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using namespace tidemark;
  if (size_bytes == 0) return 0;
  const absl::string_view line(reinterpret_cast<const char*>(data) + 1, size_bytes - 1);
  const auto& commands = backend::CommandIndex::Get().commands();
  const backend::Command& command = *commands[data[0] % commands.size()];
  const auto message = qmp::ReadMessage(line);
  if (!message.ok()) {
    // It goes into logs and to people.
    CHECK(message.status().message().size() < 2'000);
    return 0;
  }
  const auto* const answer = absl::get_if<qmp::Answer>(&*message);
  if (answer == nullptr) return 0;
  const std::unique_ptr<google::protobuf::Message> response(command.response->New());
  if (!qmp::FromJson(answer->reply.value, qmp::Strictness::kReply, response.get()).ok()) return 0;
  // What was understood can be said again, and is understood alike.
  const std::unique_ptr<google::protobuf::Message> again(command.response->New());
  CHECK(qmp::FromJson(qmp::ToJson(*response, {.with_zeros = true}), qmp::Strictness::kReply,
                      again.get())
            .ok());
  return 0;
}
