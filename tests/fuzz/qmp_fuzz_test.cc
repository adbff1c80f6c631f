// A QEMU that lies: lines damaged at random, for the reader of JSON, for the transcoder into every
// response there is, and for a connection. Whatever comes, there is an answer or an error, every
// command ends once, and memory stays in proportion to what was sent.
//
// Deterministic: round number N is always the same. FUZZ_SEED=N runs that one alone,
// FUZZ_ITERATIONS=N runs more of them.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/connection.h"
#include "adapters/qmp/message.h"
#include "adapters/qmp/testing/fake_monitor.h"
#include "adapters/qmp/testing/recorder.h"
#include "adapters/qmp/testing/socket_folder.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/command.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Random = std::mt19937_64;

constexpr int kRoundsDefault = 1'000;
constexpr int kConnectionsDefault = 150;
constexpr int kDepthMax = 5;

int Variable(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  int value;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// Runs `round` for each number, or for the one that was asked for.
void ForEachSeed(int count, const std::function<void(Random&)>& round) {
  const int only = Variable("FUZZ_SEED", -1);
  const int end = Variable("FUZZ_ITERATIONS", count);
  for (int seed = 0; seed < end; ++seed) {
    if (only >= 0 && seed != only) continue;
    SCOPED_TRACE(absl::StrCat("FUZZ_SEED=", seed));
    Random random(seed);
    round(random);
    if (::testing::Test::HasFailure()) return;
  }
}

// --- Plausible replies ---

void Fill(Message* message, Random& random, int depth);

void FillField(Message* message, const FieldDescriptor& field, Random& random, int depth) {
  const Reflection& r = *message->GetReflection();
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (depth >= kDepthMax) return;
      return Fill(list ? r.AddMessage(message, &field) : r.MutableMessage(message, &field), random,
                  depth + 1);
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = absl::StrCat("s", random() % 100);
      return list ? r.AddString(message, &field, text) : r.SetString(message, &field, text);
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? r.AddBool(message, &field, true) : r.SetBool(message, &field, random() % 2);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = random() % field.enum_type()->value_count();
      const auto* const value = field.enum_type()->value(number);
      return list ? r.AddEnum(message, &field, value) : r.SetEnum(message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r.AddInt32(message, &field, 7) : r.SetInt32(message, &field, random());
    case FieldDescriptor::CPPTYPE_UINT32:
      return list ? r.AddUInt32(message, &field, 7) : r.SetUInt32(message, &field, random());
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r.AddInt64(message, &field, -7) : r.SetInt64(message, &field, random());
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? r.AddUInt64(message, &field, 7) : r.SetUInt64(message, &field, random());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return list ? r.AddDouble(message, &field, 7) : r.SetDouble(message, &field, random() % 99);
    default:
      return;
  }
}

void Fill(Message* message, Random& random, int depth) {
  const auto& type = *message->GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    // Of a union the last case that is chosen stays.
    if (random() % (2 + depth) == 0) FillField(message, *type.field(i), random, depth);
  }
}

// A response of `command` as QEMU would say it.
Json PlausibleReply(const backend::Command& command, Random& random) {
  const std::unique_ptr<Message> response(command.response->New());
  Fill(response.get(), random, 0);
  JsonForm form;
  form.with_zeros = random() % 2 == 0;
  return ToJson(*response, form);
}

// --- Damage ---

Json StrangeValue(Random& random) {
  switch (random() % 12) {
    case 0:
      return nullptr;
    case 1:
      return true;
    case 2:
      return -1;
    case 3:
      return UINT64_MAX - random() % 2;
    case 4:
      return INT64_MIN;
    case 5:
      return 1e308;
    case 6:
      return "";
    case 7:
      return std::string(random() % 2'000, 'x');
    case 8:
      return Json::array();
    case 9:
      return Json::object();
    case 10: {
      Json deep = 1;
      for (int i = random() % 500; i > 0; --i) deep = Json::array({deep});
      return deep;
    }
    default: {
      Json deep = Json::object();
      for (int i = random() % 200; i > 0; --i) deep = Json{{"backing-image", deep}, {"a", 1}};
      return deep;
    }
  }
}

// Some value in `json`, and all above it.
Json* SomeValue(Json* json, Random& random) {
  while (json->is_structured() && !json->empty() && random() % 4 != 0) {
    auto position = json->begin();
    std::advance(position, random() % json->size());
    json = &*position;
  }
  return json;
}

void DamageTree(Json* json, Random& random) {
  Json* const value = SomeValue(json, random);
  if (value->is_object() && random() % 3 == 0) {
    (*value)[absl::StrCat("unknown", random() % 9)] = StrangeValue(random);
  } else if (value->is_array() && random() % 2 == 0) {
    for (int i = random() % 20; i > 0; --i) value->push_back(StrangeValue(random));
  } else {
    *value = StrangeValue(random);
  }
}

void DamageText(std::string* text, Random& random) {
  if (text->empty()) return;
  const size_t at = random() % text->size();
  switch (random() % 6) {
    case 0:
      (*text)[at] = static_cast<char>(random());
      return;
    case 1:
      text->erase(at, random() % 20);
      return;
    case 2:
      text->resize(at);
      return;
    case 3:
      text->insert(at, text->substr(random() % text->size(), random() % 50));
      return;
    case 4: {
      const char* const pieces[] = {"{",    "}",   "[",       "]",     "\"", ",",
                                    ":",    "\\u", "\\ud800", "1e999", "\n", "99999999999999999999",
                                    "\xff", "-",   "null"};
      text->insert(at, pieces[random() % std::size(pieces)]);
      return;
    }
    default:
      text->insert(at, std::string(random() % 3'000, "[{ 1"[random() % 4]));
      return;
  }
}

std::string DamagedLine(Json line, Random& random) {
  for (int i = random() % 4; i > 0; --i) DamageTree(&line, random);
  std::string text = line.dump();
  for (int i = random() % 4; i > 0; --i) DamageText(&text, random);
  return text;
}

const backend::Command& SomeCommand(Random& random) {
  const auto& commands = backend::CommandIndex::Get().commands();
  return *commands[random() % commands.size()];
}

// --- The tests ---

TEST(QmpFuzzTest, EveryDamagedReplyIsReadOrRefused) {
  int read = 0;
  ForEachSeed(kRoundsDefault, [&](Random& random) {
    const backend::Command& command = SomeCommand(random);
    const std::string text = DamagedLine(PlausibleReply(command, random), random);
    const absl::StatusOr<Json> json = ParseJson(text);
    if (!json.ok()) {
      EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument);
      return;
    }
    const std::unique_ptr<Message> response(command.response->New());
    uint64_t unknown = 0;
    const absl::Status status = FromJson(*json, Strictness::kReply, response.get(), &unknown);
    if (status.ok()) {
      ++read;
      EXPECT_LE(response->SpaceUsedLong(), 10'000 + 1'000 * text.size());
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_LT(status.message().size(), 20'000U);
    }
  });
  if (Variable("FUZZ_SEED", -1) < 0) {
    EXPECT_GT(read, 50);
  }
}

TEST(QmpFuzzTest, EveryDamagedRequestIsReadOrRefused) {
  ForEachSeed(kRoundsDefault, [&](Random& random) {
    const backend::Command& command = SomeCommand(random);
    const std::unique_ptr<Message> request(command.request->New());
    Fill(request.get(), random, 0);
    const absl::StatusOr<Json> json = ParseJson(DamagedLine(ToJson(*request), random));
    if (!json.ok()) return;
    for (const Strictness strictness : {Strictness::kRequest, Strictness::kTyped}) {
      const std::unique_ptr<Message> again(command.request->New());
      const absl::Status status = FromJson(*json, strictness, again.get());
      if (!status.ok()) {
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      }
    }
  });
}

TEST(QmpFuzzTest, EveryDamagedLineIsAMessageOrRefused) {
  ForEachSeed(kRoundsDefault, [&](Random& random) {
    const Json lines[] = {*ParseJson(FakeMonitor::DefaultGreeting()),
                          {{"event", "E"}, {"data", PlausibleReply(SomeCommand(random), random)}},
                          {{"return", PlausibleReply(SomeCommand(random), random)}, {"id", 1}},
                          {{"error", {{"class", "C"}, {"desc", "d"}}}, {"id", 2}}};
    const auto message = ReadMessage(DamagedLine(lines[random() % 4], random));
    if (!message.ok()) {
      EXPECT_LT(message.status().message().size(), 2'000U);
    }
  });
}

TEST(QmpFuzzTest, AConnectionSurvivesEveryMonitorAndEndsEveryCommandOnce) {
  const SocketFolder folder;
  IoLoop loop;
  WorkerPool workers("worker", 2);
  ForEachSeed(kConnectionsDefault, [&](Random& random) {
    const bool greets = random() % 8 != 0;
    std::string greeting = FakeMonitor::DefaultGreeting();
    if (!greets) greeting = DamagedLine(*ParseJson(greeting), random) + "\n";
    FakeMonitor monitor(folder.File("qmp"), greeting);
    // Answers whatever comes with damaged lines, often under the id of the command.
    const int commands = 1 + random() % 8;
    for (int i = 0; i < commands; ++i) monitor.Hold(absl::StrCat("c", i));

    ConnectionLimits limits;
    if (!greets) limits.handshake_max = absl::Milliseconds(200);
    limits.silence_max = absl::Seconds(30);
    const auto recorder = std::make_shared<Recorder>();
    auto connection = Connection::Open(
        loop, workers, *MonitorAddress::Parse("unix:" + monitor.path()), recorder, limits);
    ASSERT_TRUE(monitor.WaitForClients(1));
    if (greets) {
      ASSERT_TRUE(recorder->WaitForReady());
    }
    for (int i = 0; i < commands; ++i) {
      const std::string name = absl::StrCat("c", i);
      connection->Execute(name, Json(), recorder->Note(name));
    }
    for (int i = random() % 12; i > 0; --i) {
      const Json reply = PlausibleReply(SomeCommand(random), random);
      Json line = {{"return", reply}, {"id", random() % 12}};
      if (random() % 3 == 0) line = {{"event", "E"}, {"data", Json::object()}};
      std::string bytes = random() % 2 == 0 ? line.dump() : DamagedLine(line, random);
      if (random() % 10 == 0) bytes.insert(bytes.size() / 2, 100'000, ' ');
      if (!monitor.SendBytes(bytes + "\n")) break;
    }
    if (random() % 2 == 0) {
      connection->Close(absl::CancelledError("enough"));
    } else {
      monitor.Hangup();
    }
    ASSERT_TRUE(recorder->WaitFor("closed"));
    for (int i = 0; i < commands; ++i) ASSERT_TRUE(recorder->WaitFor(absl::StrCat("reply c", i)));
    const std::vector<std::string> story = recorder->story();
    for (int i = 0; i < commands; ++i) {
      EXPECT_EQ(std::count(story.begin(), story.end(), absl::StrCat("reply c", i)), 1);
    }
    EXPECT_EQ(std::count(story.begin(), story.end(), "closed"), 1);
    EXPECT_LE(std::count(story.begin(), story.end(), "ready"), 1);
  });
}

}  // namespace
}  // namespace tidemark::qmp
