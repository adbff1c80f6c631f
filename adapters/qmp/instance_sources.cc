// Where instances come from beside clients: a file, and the sockets of folders; and what clients
// may name.
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/qmp/instances.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "engine/base/small_file.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kInstancesFileBytesMax));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool fits = json.is_object() && json.size() == 1 && json.contains("instances") &&
                    json["instances"].is_array();
  if (!fits) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("'", path, "' is not of the form {\"instances\": [...]}"),
                 {{"file", path}});
  }
  return std::move(json["instances"]);
}

}  // namespace

absl::StatusOr<std::vector<v1::CreateInstanceRequest>> ReadInstancesFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Json list, ReadJson(path));
  std::vector<v1::CreateInstanceRequest> instances;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string place = absl::StrCat("'", path, "', instances[", i, "]");
    v1::CreateInstanceRequest instance;
    absl::Status status = FromJson(list[i], Strictness::kRequest, &instance);
    if (status.ok()) status = backend::Validate(instance);
    if (status.ok()) status = AddressOf(instance).status();
    if (!status.ok()) return Annotate(status, place);
    for (const v1::CreateInstanceRequest& other : instances) {
      if (other.id() != instance.id()) continue;
      return Error(Reason::kInstanceExists,
                   absl::StrCat(place, ": id '", instance.id(), "' is used twice"),
                   {{"instance", instance.id()}});
    }
    instances.push_back(std::move(instance));
  }
  return instances;
}

absl::StatusOr<v1::CreateInstanceRequest> InstanceOfSocket(absl::string_view folder,
                                                           absl::string_view name) {
  v1::CreateInstanceRequest instance;
  const std::string path = absl::StrCat(folder, "/", name);
  if (ToUtf8(path) != path) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("Path '", ToUtf8(path),
                              "' is not UTF-8, and clients could not read "
                              "it"),
                 {{"field", "address.unix_socket.path"}});
  }
  instance.mutable_address()->mutable_unix_socket()->set_path(path);
  bool has_suffix = true;
  while (has_suffix) {
    has_suffix = absl::ConsumeSuffix(&name, ".sock") || absl::ConsumeSuffix(&name, ".socket") ||
                 absl::ConsumeSuffix(&name, ".qmp") || absl::ConsumeSuffix(&name, ".monitor");
  }
  instance.set_id(std::string(name));
  RETURN_IF_ERROR(backend::Validate(instance));
  return instance;
}

absl::StatusOr<MonitorAddress> AddressOf(const v1::CreateInstanceRequest& request) {
  const v1::MonitorAddress& address = request.address();
  switch (address.address_case()) {
    case v1::MonitorAddress::kUnixSocket:
      return MonitorAddress::Parse(absl::StrCat("unix:", address.unix_socket().path()));
    case v1::MonitorAddress::kTcp: {
      const std::string& host = address.tcp().host();
      const bool is_ipv6 = absl::StrContains(host, ':');
      return MonitorAddress::Parse(absl::StrCat("tcp:", is_ipv6 ? "[" : "", host,
                                                is_ipv6 ? "]:" : ":", address.tcp().port()));
    }
    case v1::MonitorAddress::kVsock:
      return MonitorAddress::Parse(
          absl::StrCat("vsock:", address.vsock().cid(), ":", address.vsock().port()));
    case v1::MonitorAddress::ADDRESS_NOT_SET:
      break;
  }
  return Error(Reason::kInvalidField, "The address of an instance must be given",
               {{"field", "address"}});
}

}  // namespace tidemark::qmp
