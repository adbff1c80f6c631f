#include "service/config.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark {
namespace {

absl::Status Invalid(absl::string_view what) {
  return Error(Reason::kInvalidField, absl::StrCat(what, "; see tidemarkd --help"));
}

// A flag that takes a value.
struct Flag {
  absl::string_view name;
  // Refuses by status.
  std::function<absl::Status(std::string value)> set;
};

absl::Status SetOnce(absl::string_view name, std::string value, std::string* member) {
  if (value.empty()) return Invalid(absl::StrCat("--", name, " needs a value"));
  if (!member->empty()) return Invalid(absl::StrCat("--", name, " is given twice"));
  *member = std::move(value);
  return absl::OkStatus();
}

absl::Status AddListen(const std::string& value, Config* config) {
  ASSIGN_OR_RETURN(rpc::ListenAddress address, rpc::ParseListenAddress(value));
  const bool is_new = std::none_of(
      config->listen.begin(), config->listen.end(),
      [&address](const rpc::ListenAddress& other) { return other.text == address.text; });
  if (!is_new) return Invalid(absl::StrCat("--listen '", value, "' is given twice"));
  config->listen.push_back(std::move(address));
  return absl::OkStatus();
}

std::vector<Flag> Flags(Config* config) {
  const auto once = [](absl::string_view name, std::string* member) {
    return Flag{name, [name, member](std::string value) {
                  return SetOnce(name, std::move(value), member);
                }};
  };
  return {
      {"listen", [config](std::string value) { return AddListen(value, config); }},
      {"image_root",
       [config](std::string value) {
         if (value.empty()) return Invalid("--image_root needs a folder");
         config->image_roots.push_back(std::move(value));
         return absl::OkStatus();
       }},
      once("state_dir", &config->state_dir),
      once("tls_cert", &config->tls_cert),
      once("tls_key", &config->tls_key),
      once("tls_client_ca", &config->tls_client_ca),
      once("startup", &config->startup_file),
  };
}

absl::Status CheckTogether(const Config& config) {
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return Invalid("--tls_cert and --tls_key go together");
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return Invalid("--tls_client_ca needs --tls_cert and --tls_key");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Config> ParseConfig(const std::vector<std::string>& arguments,
                                   const Environment& environment) {
  Config config;
  const std::vector<Flag> flags = Flags(&config);
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      config.action = Config::Action::kHelp;
      return config;
    }
    if (argument == "--version") {
      config.action = Config::Action::kVersion;
      return config;
    }
    if (!absl::ConsumePrefix(&argument, "--")) {
      return Invalid(absl::StrCat("'", arguments[i], "' is not a flag"));
    }
    const size_t equals = argument.find('=');
    // Dashes and underscores in names mean the same.
    std::string name(argument.substr(0, equals));
    std::replace(name.begin(), name.end(), '-', '_');
    const auto flag = std::find_if(flags.begin(), flags.end(),
                                   [&name](const Flag& known) { return known.name == name; });
    if (flag == flags.end()) {
      return Invalid(absl::StrCat("There is no flag --", argument.substr(0, equals)));
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(argument.substr(equals + 1));
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return Invalid(absl::StrCat("--", name, " needs a value"));
    }
    RETURN_IF_ERROR(flag->set(std::move(value)));
  }
  RETURN_IF_ERROR(CheckTogether(config));
  if (config.listen.empty()) {
    RETURN_IF_ERROR(AddListen(absl::StrCat("unix:", DefaultSocketPath(environment)), &config));
  }
  return config;
}

std::string HelpText() {
  return R"(tidemarkd - live block operations and backups of virtual disks, over gRPC

Usage: tidemarkd [flags]

Where to listen
  --listen ADDRESS      unix:PATH, or HOST:PORT. May be given several times. A unix socket is
                        made with mode 0600. A TCP address that other machines can reach needs
                        TLS. Port 0 takes any free port; the address is printed at start.
                        Default: unix:$XDG_RUNTIME_DIR/tidemark.sock, as root
                        unix:/run/tidemark/tidemark.sock.
  --tls_cert FILE       The service's certificate (with its chain) and private key, in PEM.
  --tls_key FILE        TCP addresses then speak TLS only.
  --tls_client_ca FILE  Take only clients whose certificate this authority (PEM) signed.

What it may touch
  --image_root FOLDER   Open and create images, sockets and targets only below this folder. May
                        be given several times; symbolic links do not lead out. Default: any
                        path that the user of the service may use.
  --state_dir FOLDER    Where the service keeps events and the results of jobs, so that watchers and
                        the history of jobs go on after a restart. Made if it is missing. Default:
                        nothing is kept.

What it does at start
  --startup FILE        Send these requests to itself before it serves anybody: a JSON list of
                        {"method": "BlockdevAdd", "body": {...}}. The method is the name of an RPC,
                        with or without its service, or QMP's name of the command; the body is
                        the request in protobuf's JSON. If one fails the service does not start.

  --help                Print this.
  --version             Print the version.

Stops on SIGTERM and SIGINT: cancels jobs, saves bitmaps, closes exports, then ends with status 0.
Ends with status 1 if it cannot start, and 2 if these flags are wrong.

Example
  tidemarkd --listen unix:/tmp/tidemark.sock --image_root /var/lib/images
  tidemark --address unix:/tmp/tidemark.sock commands
)";
}

}  // namespace tidemark
