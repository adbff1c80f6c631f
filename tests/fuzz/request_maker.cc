#include "tests/fuzz/request_maker.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qmp/options.pb.h"

namespace tidemark::test {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

constexpr int kDepthMax = 6;

constexpr const char* kNodes[] = {"n0", "n1", "n2", "n3", "n4", "n5", "f0", "f1", "new0", "new1"};
// The native engine has no nodes that it has not been given.
constexpr const char* kNativeNodes[] = {"n0", "n1", "n2", "n3",   "n4",   "f0",
                                        "f1", "f2", "f3", "new0", "new1", "new2"};
constexpr const char* kBitmaps[] = {"b0", "b1", "b2", "kept"};
constexpr const char* kJobs[] = {"j0", "j1", "j2"};
constexpr const char* kNativeJobs[] = {"j0", "j1", "j2", "j3", "j4", "j5"};
constexpr const char* kExports[] = {"e0", "e1"};
constexpr const char* kObjects[] = {"o0", "o1", "o2"};
constexpr const char* kDevices[] = {"cd0", "drive0", "nobody"};
constexpr const char* kSnapshots[] = {"s0", "s1"};
constexpr const char* kFiles[] = {"a.qcow2", "b.qcow2", "c.qcow2", "d.raw",
                                  "e.raw",   "f.new",   "g.new",   "nothing/here"};
// What ends in .qcow2 is one, or is not there yet.
constexpr const char* kNativeFiles[] = {"a.qcow2",    "b.qcow2", "c.qcow2", "base.qcow2",
                                        "new0.qcow2", "d.raw",   "e.raw",   "new1.qcow2",
                                        "new2.raw",   "f.new",   "g.new",   "nothing/here"};
constexpr const char* kSockets[] = {"nbd.sock", "other.sock"};
constexpr const char* kWords[] = {"", "x", "raw", "qcow2", "backing", "file", "root"};

// What opens no other host, no device of this one, and no guest's memory.
constexpr const char* kDrivers[] = {
    "raw",       "qcow2",    "file",     "null_co", "null_aio",     "copy_on_read",
    "throttle",  "compress", "quorum",   "vdi",     "vmdk",         "copy_before_write",
    "parallels", "qed",      "blkdebug", "vpc",     "blkverify",    "preallocate",
    "vhdx",      "qcow",     "luks",     "nbd",     "blklogwrites", "snapshot_access"};

// The native engine's; the others it refuses by name.
constexpr const char* kNativeDrivers[] = {"raw", "qcow2", "file", "null_co"};

// Of so many fields that need not be there one is.
constexpr int kSparseness[] = {3, 6, 15, 30};

constexpr int64_t kNumbers[] = {0,    1,     2,       3,       7,       16,      512,
                                4096, 65536, 1 << 20, 3 << 20, 8 << 20, 16 << 20};
// Time passes for real.
constexpr absl::string_view kTimes[] = {"latency", "poll", "timeout", "delay", "interval"};

template <size_t N>
bool ContainsAny(absl::string_view text, const absl::string_view (&parts)[N]) {
  return std::any_of(std::begin(parts), std::end(parts),
                     [&](absl::string_view part) { return absl::StrContains(text, part); });
}

template <size_t N>
bool IsOneOf(absl::string_view text, const char* const (&choices)[N]) {
  return std::find(std::begin(choices), std::end(choices), text) != std::end(choices);
}

}  // namespace

RequestMaker::RequestMaker(uint64_t seed, std::string folder,
                           const std::function<bool(const backend::Command&)>& has, Engine engine)
    : random_(seed), folder_(std::move(folder)), engine_(engine) {
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    if (has(*command)) commands_.push_back(command.get());
  }
}

RequestMaker::Made RequestMaker::Next() {
  const auto is_left_out = [this] {
    switch (command_->kind) {
      case backend::CommandKind::kQuery:
        // Questions kill nothing, or at once.
        return !OneIn(8);
      case backend::CommandKind::kJobVerb:
        // There are more of these than jobs.
        return engine_ == Engine::kNative && !OneIn(3);
      default:
        return false;
    }
  };
  do {
    command_ = commands_[random_() % commands_.size()];
  } while (is_left_out());
  return Make();
}

RequestMaker::Made RequestMaker::Of(size_t index) {
  command_ = commands_[index % commands_.size()];
  return Make();
}

RequestMaker::Made RequestMaker::Make() {
  // Most refusals are of what need not be said.
  sparseness_ = engine_ == Engine::kNative ? Pick(kSparseness) : 3;
  std::unique_ptr<Message> request(command_->request->New());
  Fill(request.get(), 0);
  return {command_, std::move(request)};
}

bool RequestMaker::IsMade(const Field& field) const {
  if (field.options().GetExtension(::qmp::local) != ::qmp::LOCAL_UNSPECIFIED) return false;
  const ::qmp::Engine only = field.options().GetExtension(::qmp::only);
  return only != (engine_ == Engine::kNative ? ::qmp::ENGINE_QEMU : ::qmp::ENGINE_NATIVE);
}

bool RequestMaker::IsNeeded(const Field& field, int depth) {
  const auto& options = field.options();
  if (options.GetExtension(::qmp::required)) return true;
  if (options.GetExtension(::qmp::check).min_items() > 0) return true;
  if (engine_ == Engine::kQemu) return false;
  // Jobs that last, and backups by bitmaps.
  if (field.name() == "speed") return OneIn(3);
  if (field.name() == "bitmap" || field.name() == "bitmap_mode") return OneIn(2);
  // What has no name the native engine refuses, where it is not part of something that has one.
  const bool is_name = field.name() == "job_id" || field.name() == "snapshot_node_name" ||
                       (field.name() == "node_name" && depth <= 1);
  return is_name && !OneIn(10);
}

bool RequestMaker::IsMadeDriver(const Field& field) {
  if (engine_ == Engine::kNative && !OneIn(20)) return IsOneOf(field.name(), kNativeDrivers);
  return IsOneOf(field.name(), kDrivers);
}

void RequestMaker::Fill(Message* message, int depth) {
  const auto& type = *message->GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const Field& field = *type.field(i);
    if (!IsMade(field)) continue;
    if (const OneofDescriptor* const oneof = field.real_containing_oneof()) {
      if (oneof->field(0) == &field) FillUnion(message, *oneof, depth);
      continue;
    }
    if (!IsNeeded(field, depth) && !OneIn(sparseness_ + depth)) continue;
    const int count = field.is_repeated() ? 1 + random_() % 3 : 1;
    for (int j = 0; j < count; ++j) Set(message, field, depth);
  }
  if (!names_.bitmaps.empty() && !OneIn(4)) NameBitmapThatIsThere(message);
}

void RequestMaker::NameBitmapThatIsThere(Message* message) {
  const auto& type = *message->GetDescriptor();
  if (absl::EndsWith(type.name(), "AddRequest")) return;
  const auto& [node, bitmap] = names_.bitmaps[random_() % names_.bitmaps.size()];
  const Reflection& r = *message->GetReflection();
  // How messages call the two.
  for (const auto& [node_field, bitmap_field] :
       {std::pair{"node", "name"}, {"node", "target"}, {"device", "bitmap"}}) {
    const Field* const of_node = type.FindFieldByName(node_field);
    const Field* const of_bitmap = type.FindFieldByName(bitmap_field);
    if (of_node == nullptr || of_bitmap == nullptr) continue;
    if (r.GetString(*message, of_bitmap).empty()) continue;
    r.SetString(message, of_node, node);
    r.SetString(message, of_bitmap, bitmap);
  }
}

void RequestMaker::FillUnion(Message* message, const OneofDescriptor& oneof, int depth) {
  const bool is_driver = oneof.options().GetExtension(::qmp::tag) == "driver";
  for (int attempt = 0; attempt < 200; ++attempt) {
    const Field& field = *oneof.field(random_() % oneof.field_count());
    if (!IsMade(field)) continue;
    if (is_driver && !IsMadeDriver(field)) continue;
    // Deep down a name, not one more definition.
    if (depth >= kDepthMax / 2 && field.message_type() != nullptr && attempt < 50 && !is_driver) {
      continue;
    }
    return Set(message, field, depth);
  }
}

void RequestMaker::Set(Message* message, const Field& field, int depth) {
  const Reflection& r = *message->GetReflection();
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      if (depth >= kDepthMax) return;
      return Fill(list ? r.AddMessage(message, &field) : r.MutableMessage(message, &field),
                  depth + 1);
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = Text(*message, field);
      return list ? r.AddString(message, &field, text) : r.SetString(message, &field, text);
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? r.AddBool(message, &field, OneIn(2)) : r.SetBool(message, &field, OneIn(2));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = 1 + random_() % (field.enum_type()->value_count() - 1);
      const auto* const value = field.enum_type()->value(number);
      return list ? r.AddEnum(message, &field, value) : r.SetEnum(message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r.AddInt32(message, &field, Number(field))
                  : r.SetInt32(message, &field, Number(field));
    case FieldDescriptor::CPPTYPE_UINT32:
      return list ? r.AddUInt32(message, &field, Number(field))
                  : r.SetUInt32(message, &field, Number(field));
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r.AddInt64(message, &field, Number(field))
                  : r.SetInt64(message, &field, Number(field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? r.AddUInt64(message, &field, Number(field))
                  : r.SetUInt64(message, &field, Number(field));
    default:
      return;
  }
}

std::string RequestMaker::Text(const Message& message, const Field& field) {
  const ::qmp::Path path = field.options().GetExtension(::qmp::path);
  if (path == ::qmp::PATH_SOCKET) return absl::StrCat(folder_, "/", Pick(kSockets));
  if (path != ::qmp::PATH_UNSPECIFIED) {
    return absl::StrCat(folder_, "/",
                        engine_ == Engine::kNative ? Pick(kNativeFiles) : Pick(kFiles));
  }
  const std::string& name = field.name();
  const std::string& command = command_->qmp_name;
  if (OneIn(30)) return Pick(kWords);
  const std::string& type = message.GetDescriptor()->name();
  if (absl::StrContains(command, "job-") && (name == "id" || name == "device")) {
    return PickName(names_.jobs, kJobs);
  }
  if (name == "job_id") return engine_ == Engine::kNative ? Pick(kNativeJobs) : Pick(kJobs);
  if (absl::StrContains(name, "bitmap") ||
      (absl::StrContains(type, "Bitmap") &&
       (name == "name" || name == "target" || name == "local"))) {
    return Pick(kBitmaps);
  }
  if (name == "id") {
    if (absl::StartsWith(command, "block-export")) return PickName(names_.exports, kExports);
    return absl::StartsWith(command, "object") ? Pick(kObjects) : Pick(kDevices);
  }
  if (name == "iothread" || absl::StrContains(name, "secret") || name == "throttle_group" ||
      absl::StrContains(name, "tls_")) {
    return Pick(kObjects);
  }
  if (absl::StrContains(name, "snapshot") && name != "snapshot_node_name") return Pick(kSnapshots);
  if (name == "tag" || (name == "name" && absl::StrContains(type, "Snapshot"))) {
    return Pick(kSnapshots);
  }
  if (name == "format" || absl::StrContains(name, "fmt")) return OneIn(2) ? "qcow2" : "raw";
  if (name == "host") return "127.0.0.1";
  if (name == "port") return "1";
  if (name == "filter_node_name" || name == "snapshot_node_name") return OneIn(2) ? "new0" : "new1";
  if (name == "name" || name == "child" || name == "data") return Pick(kWords);
  if (OneIn(20)) return Pick(kDevices);
  if (engine_ == Engine::kQemu) return Pick(kNodes);
  if (type == "BlockdevOptions") return Pick(kNativeNodes);
  return PickName(names_.nodes, kNativeNodes);
}

int64_t RequestMaker::Number(const Field& field) {
  const auto& check = field.options().GetExtension(::qmp::check);
  int64_t number = Pick(kNumbers);
  if (ContainsAny(field.name(), kTimes)) {
    number = random_() % 3;
  } else if (OneIn(40)) {
    number = OneIn(2) ? -1 : int64_t{1} << (31 + random_() % 32);
  }
  if (check.power_of_two() && number > 0) {
    while ((number & (number - 1)) != 0) number &= number - 1;
  }
  if (check.has_min()) number = std::max(number, check.min());
  if (check.has_max()) number = std::min(number, check.max());
  return number;
}

}  // namespace tidemark::test
