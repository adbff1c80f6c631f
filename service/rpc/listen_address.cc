#include "service/rpc/listen_address.h"

#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"

namespace tidemark::rpc {
namespace {

// What SocketNest adds to a path: ".XXXXXX/s".
constexpr size_t kNestSuffixBytes = 9;
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1 - kNestSuffixBytes;
constexpr int kPortMax = 65535;
constexpr mode_t kModeMax = 0777;

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return Error(Reason::kInvalidField, absl::StrCat("Cannot listen on '", text, "': ", why,
                                                   " (write unix:PATH or HOST:PORT)"));
}

absl::Status SystemError(absl::string_view what, const std::string& path) {
  return Error(Reason::kIoError, absl::StrCat(what, " '", path, "': ", std::strerror(errno)),
               {{"file", path}});
}

absl::Status InUse(const std::string& path, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("Cannot listen on '", path, "': ", why));
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  ListenAddress address;
  address.text = std::string(text);
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    if (rest.empty()) return Invalid(text, "the path is missing");
    if (rest.size() > kSocketPathBytesMax) {
      return Invalid(text, absl::StrCat("the path is longer than ", kSocketPathBytesMax, " bytes"));
    }
    address.socket_path = std::string(rest);
    return address;
  }
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos) return Invalid(text, "there is no port");
  absl::string_view host = rest.substr(0, colon);
  const absl::string_view port = rest.substr(colon + 1);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return Invalid(text, "the bracket is not closed");
  } else if (absl::StrContains(host, ':')) {
    return Invalid(text, "an IPv6 address needs brackets");
  }
  if (host.empty()) return Invalid(text, "the host is missing");
  int number = 0;
  if (!absl::SimpleAtoi(port, &number) || number < 0 || number > kPortMax) {
    return Invalid(text, absl::StrCat("'", port, "' is not a port from 0 to 65535"));
  }
  address.host = std::string(host);
  address.port = absl::StrCat(number);
  return address;
}

absl::StatusOr<std::vector<std::string>> ResolveTcp(const ListenAddress& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
  if (error != 0) return Invalid(address.text, gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(found, &freeaddrinfo);
  std::vector<std::string> numeric;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    char host[NI_MAXHOST];
    if (getnameinfo(one->ai_addr, one->ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) !=
        0) {
      continue;
    }
    const std::string text = one->ai_family == AF_INET6
                                 ? absl::StrCat("[", host, "]:", address.port)
                                 : absl::StrCat(host, ":", address.port);
    if (std::find(numeric.begin(), numeric.end(), text) == numeric.end()) numeric.push_back(text);
  }
  if (numeric.empty()) return Invalid(address.text, "the host has no address");
  return numeric;
}

absl::Status CheckGuarded(const ListenAddress& address, bool has_tls, bool asks_clients) {
  if (address.is_unix() || (has_tls && asks_clients)) return absl::OkStatus();
  return Error(
      Reason::kInvalidCombination,
      absl::StrCat("Cannot listen on '", address.text,
                   "': every user of every machine that reaches it could do there what the service "
                   "can, for TCP does not tell who connects",
                   has_tls ? ", and its TLS does not ask; give --tls_client_ca or --token_file"
                           : "; give --tls_cert and --tls_key with --tls_client_ca or --token_file",
                   ", or listen on unix:PATH, or say --insecure"));
}

absl::StatusOr<mode_t> ParseMode(absl::string_view text) {
  mode_t mode = 0;
  const bool is_octal = !text.empty() && text.size() <= 4 &&
                        std::all_of(text.begin(), text.end(),
                                    [](char digit) { return digit >= '0' && digit <= '7'; });
  for (const char digit : text) mode = 8 * mode + (digit - '0');
  if (is_octal && mode <= kModeMax) return mode;
  return Error(Reason::kInvalidField,
               absl::StrCat("'", text, "' is no mode of a socket, as 600 or 0660"));
}

absl::StatusOr<gid_t> FindGroup(const std::string& text) {
  gid_t number;
  if (absl::SimpleAtoi(text, &number)) return number;
  std::vector<char> buffer(1 << 16);
  group entry;
  group* found = nullptr;
  if (getgrnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    return entry.gr_gid;
  }
  return Error(Reason::kInvalidField, absl::StrCat("There is no group '", text, "'"));
}

absl::Status CheckSocketFree(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? absl::OkStatus() : SystemError("Cannot listen on", path);
  }
  if (!S_ISSOCK(info.st_mode)) return InUse(path, "there is something that is not a socket");
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return SystemError("Cannot probe", path);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, path.c_str(), sizeof(name.sun_path) - 1);
  const int connected = connect(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name);
  const int error = connected == 0 ? 0 : errno;
  close(descriptor);
  if (error == ECONNREFUSED) return absl::OkStatus();  // Left behind: nobody listens any more.
  return InUse(path, "another daemon answers there");
}

absl::StatusOr<SocketNest> SocketNest::Create(const std::string& final_path) {
  std::string folder = final_path + ".XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return SystemError("Cannot make a socket at", final_path);
  return SocketNest(std::move(folder), final_path);
}

SocketNest::SocketNest(SocketNest&& other) noexcept
    : folder_(std::exchange(other.folder_, "")), final_path_(std::move(other.final_path_)) {}

SocketNest::~SocketNest() {
  if (folder_.empty()) return;
  unlink(path().c_str());
  rmdir(folder_.c_str());
}

absl::Status SocketNest::Hatch(const SocketAccess& access) {
  if (access.group.has_value() && chown(path().c_str(), -1, *access.group) != 0) {
    return SystemError(absl::StrCat("Cannot give group ", *access.group, " the socket"),
                       final_path_);
  }
  if (chmod(path().c_str(), access.mode) != 0 || rename(path().c_str(), final_path_.c_str()) != 0) {
    return SystemError("Cannot make the socket", final_path_);
  }
  return absl::OkStatus();
}

}  // namespace tidemark::rpc
