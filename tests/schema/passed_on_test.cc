// Values that a reply tells and that a request takes under the same name. A client of JSON cannot
// tell 0, false or "" of a reply from nothing, unless the field has presence; passed on, nothing
// means whatever is said of an unset field. So a request must not tell the two apart where a reply
// does not.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/instance.pb.h"
#include "tidemark/block/v1/job.pb.h"

namespace tidemark::test {
namespace {

namespace pb = ::google::protobuf;

constexpr const char* kServices[] = {
    "BitmapService", "DeviceService",  "EventService", "ExportService", "InstanceService",
    "JobService",    "MachineService", "NodeService",  "ObjectService", "TransactionService",
};

// Which messages have such a field.
using Fields = std::map<std::string, std::set<std::string>>;

std::string NameOf(const pb::FieldDescriptor& field) {
  return absl::StrCat(field.name(), " (", field.cpp_type_name(), ")");
}

// Calls `look` with each single scalar of a message and of those below it.
template <typename Look>
void Walk(const pb::Descriptor& message, std::set<const pb::Descriptor*>* seen, const Look& look) {
  if (!seen->insert(&message).second) return;
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    if (field.message_type() != nullptr) {
      Walk(*field.message_type(), seen, look);
    } else if (!field.is_repeated()) {
      look(field);
    }
  }
}

struct Api {
  // Of replies, those in which nothing and 0 are one.
  Fields told;
  // Of requests, those in which they are not, and of which either may be meant.
  Fields taken;
};

Api WholeApi() {
  // So that the linker keeps what is looked up by name below.
  EXPECT_NE(block::v1::WatchEventsRequest::descriptor(), nullptr);
  EXPECT_NE(block::v1::GetCapabilitiesRequest::descriptor(), nullptr);
  Api api;
  std::set<const pb::Descriptor*> replies;
  std::set<const pb::Descriptor*> requests;
  for (const char* name : kServices) {
    const pb::ServiceDescriptor* const service =
        pb::DescriptorPool::generated_pool()->FindServiceByName(
            absl::StrCat("tidemark.block.v1.", name));
    EXPECT_NE(service, nullptr) << name;
    for (int i = 0; service != nullptr && i < service->method_count(); ++i) {
      Walk(*service->method(i)->output_type(), &replies, [&api](const pb::FieldDescriptor& field) {
        if (field.has_presence()) return;
        api.told[NameOf(field)].insert(field.containing_type()->name());
      });
      Walk(*service->method(i)->input_type(), &requests, [&api](const pb::FieldDescriptor& field) {
        // One that must be set is refused, not guessed.
        if (!field.has_presence() || field.options().GetExtension(qmp::required)) return;
        api.taken[NameOf(field)].insert(field.containing_type()->name());
      });
    }
  }
  return api;
}

// Each with the reason why nobody is misled.
const std::map<std::string, std::string>& Exceptions() {
  static const auto* const exceptions = new std::map<std::string, std::string>{
      {"active (bool)", "of a key slot in the reply, of a node in the request"},
      {"auto_dismiss (bool)",
       "QMP's own shape; the comments of Job say what false becomes in JSON"},
      {"auto_finalize (bool)", "as auto_dismiss"},
      {"direct (bool)", "unset and false are the same to QEMU"},
      {"file (string)", "of a node in the reply, with a secret's bytes in the request"},
      {"format (string)", "never empty in a reply: every image has one"},
      {"granularity (uint32)", "never 0 in a reply: 512 is the least"},
      {"id (string)", "never empty in a reply: it names what the reply is about"},
      {"name (string)", "of an export in the request; no reply tells of one by this name"},
      {"no_flush (bool)", "unset and false are the same to QEMU"},
      {"node_name (string)", "empty in a reply where there is no node, and refused in a request"},
      {"offset (int64)", "how far a job is in the reply, where an image begins in the request"},
      {"refcount_bits (int64)", "never 0 in a reply: 1 is the least"},
      {"reference (string)", "the name of a node or device, never empty"},
  };
  return *exceptions;
}

TEST(PassedOn, NoRequestTellsNothingFromZeroWhereAReplyDoesNot) {
  const Api api = WholeApi();
  ASSERT_GT(api.told.size(), 100u);
  ASSERT_GT(api.taken.size(), 100u);
  std::set<std::string> unused;
  for (const auto& [name, reason] : Exceptions()) unused.insert(name);
  for (const auto& [name, messages] : api.taken) {
    const auto told = api.told.find(name);
    if (told == api.told.end()) continue;
    EXPECT_EQ(unused.erase(name), 1u)
        << name << " is told by " << absl::StrJoin(told->second, ", ") << " and taken by "
        << absl::StrJoin(messages, ", ") << ": give it presence in the reply, or say why not";
  }
  EXPECT_EQ(absl::StrJoin(unused, ", "), "") << "exceptions that are none";
}

}  // namespace
}  // namespace tidemark::test
