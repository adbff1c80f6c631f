#include "adapters/qmp/allowed_monitors.h"

#include <arpa/inet.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

// Equal for the spellings of one numeric address; lower case for a name.
std::string CanonicalHost(const std::string& host) {
  char bytes[sizeof(in6_addr)];
  char text[INET6_ADDRSTRLEN];
  for (const int family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, host.c_str(), bytes) == 1 &&
        inet_ntop(family, bytes, text, sizeof text) != nullptr) {
      return text;
    }
  }
  return absl::AsciiStrToLower(host);
}

}  // namespace

absl::StatusOr<AllowedMonitors::Entry> AllowedMonitors::Read(const std::string& text) {
  const absl::Status refusal =
      Error(Reason::kInvalidField,
            absl::StrCat("\"", text.substr(0, 200),
                         "\" is no address of monitors: write HOST, HOST:PORT, [IPV6], "
                         "[IPV6]:PORT, vsock:CID, vsock:CID:PORT or *"),
            {{"value", text.substr(0, 200)}});
  Entry entry;
  absl::string_view rest = text;
  const bool is_vsock = absl::ConsumePrefix(&rest, "vsock:");
  if (!is_vsock) absl::ConsumePrefix(&rest, "tcp:");
  absl::string_view host = rest;
  absl::string_view port;
  const bool has_brackets = absl::StartsWith(rest, "[");
  const size_t end = has_brackets ? rest.find(']') : rest.find(':');
  if (has_brackets && end == absl::string_view::npos) return refusal;
  if (end != absl::string_view::npos) {
    host = has_brackets ? rest.substr(1, end - 1) : rest.substr(0, end);
    port = rest.substr(has_brackets ? end + 1 : end);
  }
  if (host.empty() || absl::StrContains(host, '\0')) return refusal;
  if (!port.empty()) {
    uint32_t number;
    if (!absl::ConsumePrefix(&port, ":") || !absl::SimpleAtoi(port, &number) || number == 0 ||
        (!is_vsock && number > UINT16_MAX)) {
      return refusal;
    }
    entry.port = number;
  }
  if (!is_vsock) {
    entry.host = CanonicalHost(std::string(host));
    return entry;
  }
  uint32_t cid;
  if (has_brackets || !absl::SimpleAtoi(host, &cid)) return refusal;
  entry.cid = cid;
  return entry;
}

absl::StatusOr<AllowedMonitors> AllowedMonitors::Create(const std::vector<std::string>& texts) {
  AllowedMonitors allowed;
  allowed.allows_everything_ = false;
  for (const std::string& text : texts) {
    if (text == "*") {
      allowed.allows_everything_ = true;
      continue;
    }
    ASSIGN_OR_RETURN(Entry entry, Read(text));
    allowed.entries_.push_back(std::move(entry));
  }
  return allowed;
}

absl::Status AllowedMonitors::Check(const MonitorAddress& address) const {
  if (allows_everything_ || absl::holds_alternative<UnixAddress>(address.value())) {
    return absl::OkStatus();
  }
  Entry wanted;
  if (const auto* const tcp = absl::get_if<TcpAddress>(&address.value())) {
    wanted.host = CanonicalHost(tcp->host);
    wanted.port = tcp->port;
  } else {
    const auto& vsock = absl::get<VsockAddress>(address.value());
    wanted.cid = vsock.cid;
    wanted.port = vsock.port;
  }
  const bool is_allowed =
      std::any_of(entries_.begin(), entries_.end(), [&wanted](const Entry& entry) {
        return entry.host == wanted.host && entry.cid == wanted.cid &&
               (!entry.port.has_value() || entry.port == wanted.port);
      });
  if (is_allowed) return absl::OkStatus();
  const std::string text = address.ToString();
  return Error(Reason::kPathForbidden,
               absl::StrCat("The service connects to no monitor at '", text, "' for its clients: ",
                            entries_.empty()
                                ? "it is confined by --image_root and no --instance_address is set"
                                : "it is none of those of --instance_address",
                            "; its operator can allow it by --instance_address ",
                            absl::StripPrefix(text, "tcp:"),
                            ", or list the instance in the file of --instances"),
               {{"address", text}});
}

}  // namespace tidemark::qmp
