#include "service/config.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/qmp/allowed_monitors.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark {
namespace {

// The longest time that a flag may say: a day.
constexpr int kSecondsMax = 86'400;
constexpr uint64_t kBytesMax = uint64_t{1} << 50;

absl::Status Invalid(absl::string_view what) {
  return Error(Reason::kInvalidField, absl::StrCat(what, "; see tidemarkd --help"));
}

// A flag that takes a value.
struct Flag {
  absl::string_view name;
  // Refuses by status.
  std::function<absl::Status(std::string value)> set;
  // May stand alone; its value is then empty.
  bool is_switch = false;
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

absl::Status AddFolder(absl::string_view name, std::string value,
                       std::vector<std::string>* folders) {
  if (value.empty()) return Invalid(absl::StrCat("--", name, " needs a folder"));
  folders->push_back(std::move(value));
  return absl::OkStatus();
}

absl::Status SetSeconds(absl::string_view name, const std::string& value, absl::Duration* member) {
  double seconds = 0;
  if (!absl::SimpleAtod(value, &seconds) || !(seconds > 0 && seconds <= kSecondsMax)) {
    return Invalid(
        absl::StrCat("--", name, " '", value, "' is no number of seconds up to ", kSecondsMax));
  }
  *member = absl::Seconds(seconds);
  return absl::OkStatus();
}

// Bytes: a number, with K, M or G (powers of 1024) behind it or without.
absl::Status SetBytes(absl::string_view name, absl::string_view value, uint64_t least,
                      uint64_t* member) {
  constexpr absl::string_view kUnits = "KMG";
  absl::string_view digits = value;
  int shift = 0;
  if (!digits.empty() && absl::StrContains(kUnits, digits.back())) {
    shift = 10 * (static_cast<int>(kUnits.find(digits.back())) + 1);
    digits.remove_suffix(1);
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number) || number > (kBytesMax >> shift) ||
      (number << shift) < least) {
    return Invalid(absl::StrCat("--", name, " '", value, "' is no number of bytes (such as ",
                                least >> 20, "M) from ", least, " to ", kBytesMax));
  }
  *member = number << shift;
  return absl::OkStatus();
}

absl::Status SetListenMode(const std::string& value, Config* config) {
  if (config->listen_mode.has_value()) return Invalid("--listen_mode is given twice");
  const absl::StatusOr<mode_t> mode = rpc::ParseMode(value);
  if (!mode.ok()) return Invalid(absl::StrCat("--listen_mode: ", mode.status().message()));
  config->listen_mode = *mode;
  return absl::OkStatus();
}

absl::Status AddInstanceAddress(std::string value, Config* config) {
  const absl::Status status = qmp::AllowedMonitors::Create({value}).status();
  if (!status.ok()) return Invalid(absl::StrCat("--instance_address: ", status.message()));
  config->instance_addresses.push_back(std::move(value));
  return absl::OkStatus();
}

absl::Status SetSwitch(absl::string_view name, absl::string_view value, bool* member) {
  if (value != "" && value != "true" && value != "false") {
    return Invalid(absl::StrCat("--", name, " '", value, "' is neither true nor false"));
  }
  *member = value != "false";
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
      {"listen_mode", [config](const std::string& value) { return SetListenMode(value, config); }},
      once("listen_group", &config->listen_group),
      {"image_root",
       [config](std::string value) {
         return AddFolder("image_root", std::move(value), &config->image_roots);
       }},
      {"probe_formats",
       [config](const std::string& value) {
         return SetSwitch("probe_formats", value, &config->probe_formats);
       },
       /*is_switch=*/true},
      {"memory_max",
       [config](const std::string& value) {
         return SetBytes("memory_max", value, kMemoryMaxLeast, &config->memory_bytes_max);
       }},
      {"instance_dir",
       [config](std::string value) {
         return AddFolder("instance_dir", std::move(value), &config->instance_folders);
       }},
      once("instances", &config->instances_file),
      {"instance_address",
       [config](std::string value) { return AddInstanceAddress(std::move(value), config); }},
      {"monitor_timeout",
       [config](const std::string& value) {
         return SetSeconds("monitor_timeout", value, &config->monitor_timeout);
       }},
      once("state_dir", &config->state_dir),
      once("tls_cert", &config->tls_cert),
      once("tls_key", &config->tls_key),
      once("tls_client_ca", &config->tls_client_ca),
      once("token_file", &config->token_file),
      {"insecure",
       [config](const std::string& value) {
         return SetSwitch("insecure", value, &config->insecure);
       },
       /*is_switch=*/true},
      once("startup", &config->startup_file),
  };
}

absl::Status CheckGuarded(const Config& config, const rpc::ListenAddress& address) {
  return rpc::CheckGuarded(address, !config.tls_cert.empty(),
                           !config.tls_client_ca.empty() || !config.token_file.empty());
}

absl::Status CheckTogether(const Config& config) {
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return Invalid("--tls_cert and --tls_key go together");
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return Invalid("--tls_client_ca needs --tls_cert and --tls_key");
  }
  if (!config.token_file.empty() && config.tls_cert.empty()) {
    return Invalid(
        "Tokens need TLS, or others would read them: --token_file needs --tls_cert and --tls_key");
  }
  const bool is_unix = std::any_of(config.listen.begin(), config.listen.end(),
                                   [](const rpc::ListenAddress& one) { return one.is_unix(); });
  if (!is_unix && (config.listen_mode.has_value() || !config.listen_group.empty())) {
    return Invalid("--listen_mode and --listen_group are of unix sockets, and there is none");
  }
  for (const rpc::ListenAddress& address : config.listen) {
    const absl::Status guarded = CheckGuarded(config, address);
    if (!guarded.ok() && !config.insecure) return Invalid(guarded.message());
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
    } else if (flag->is_switch) {
      // Stands alone.
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return Invalid(absl::StrCat("--", name, " needs a value"));
    }
    RETURN_IF_ERROR(flag->set(std::move(value)));
  }
  if (config.listen.empty()) {
    RETURN_IF_ERROR(AddListen(absl::StrCat("unix:", DefaultSocketPath(environment)), &config));
  }
  RETURN_IF_ERROR(CheckTogether(config));
  return config;
}

std::vector<std::string> UnguardedAddresses(const Config& config) {
  std::vector<std::string> unguarded;
  for (const rpc::ListenAddress& address : config.listen) {
    if (!CheckGuarded(config, address).ok()) unguarded.push_back(address.text);
  }
  return unguarded;
}

std::string HelpText() {
  return R"(tidemarkd - live block operations and backups of virtual disks, over gRPC

Usage: tidemarkd [flags]

Where to listen
  --listen ADDRESS      unix:PATH, or HOST:PORT. May be given several times. Port 0 takes any
                        free port; the address is printed at start. Default:
                        unix:$XDG_RUNTIME_DIR/tidemark.sock, as root
                        unix:/run/tidemark/tidemark.sock. 0.0.0.0 is every IPv4 address, [::] those
                        of IPv6 too. One host (IPv6: a network of 64 bits) has at most 1024 TCP
                        connections, or an eighth of the process's descriptors (ulimit -n) if that
                        is less, but always 64; what comes beyond is closed at once.

Who may connect (and may then do all that the service can)
  --listen_mode MODE    Who may connect to unix sockets, in octal. Default: 0600, the user of the
                        service and root; with --listen_group 0660.
  --listen_group GROUP  The group of the unix sockets, by name or number.
  --tls_cert FILE       The service's certificate (with its chain) and private key, in PEM.
  --tls_key FILE        TCP addresses then speak TLS only. A TCP address, on loopback too, also
                        needs --tls_client_ca or --token_file: TCP does not tell who connects.
  --tls_client_ca FILE  Take only clients whose certificate this authority (PEM) signed. With
                        --token_file either will do: a certificate, or else a token.
  --token_file FILE     Take only calls with a token of this file, of health and reflection too.
                        Each line is NAME SHA256HEX: a name for the client and the hash of its
                        token, as `printf %s "$token" | sha256sum` prints it; empty lines and
                        lines that begin with # are passed over. Make tokens of random bytes
                        (openssl rand -hex 32). Clients send the metadata `authorization: Bearer
                        TOKEN`; without it they are refused with UNAUTHENTICATED.
                        SIGHUP reads certificates, keys and tokens anew; files that cannot be used
                        change nothing. A token that has gone ends no call that has begun.
  --insecure            Listen on TCP addresses, on loopback and beyond, also where nothing asks
                        who connects: every user of every machine that reaches one can then do all
                        that the service can. NBD servers may then also listen there without TLS.

What it may touch
  --image_root FOLDER   Open and create images, sockets and targets only below this folder. May
                        be given several times; symbolic links do not lead out. A name whose disk
                        does not answer within 5 s is refused. Virtual machines
                        get no file names but absolute ones below it, and clients register only
                        sockets below it or in an --instance_dir, or see --instance_address; but
                        what an image itself names (backing file, data file, extents) QEMU opens
                        by itself: fence its process.
                        Default: any path that the user of the service may use.
  --probe_formats       Where the format of an image is neither given nor recorded (an existing
                        target of drive-backup without `format`, a backing file without format),
                        let its first bytes decide. Without it such a file is refused if it looks
                        like an image of any format, and is raw if not: the guest of a raw disk
                        can make it look like anything. What an image that was recognised so
                        names itself (a backing file) is not opened in either case. With
                        --image_root, a virtual machine's QEMU is not left to guess the format of
                        a target or medium either unless this is given; it then opens what it
                        finds named there, too.
  --memory_max BYTES    What the service may take for its clients, all of them together (K, M and G
                        stand for powers of 1024; at least 128M): a quarter each for the data of
                        NBD requests, the buffers of backups, bitmaps, and gRPC (requests, streams,
                        replies that nobody reads). A request of NBD and a backup that need more
                        wait their turn, and an NBD client that takes no data while others wait is
                        dropped; a gRPC call or stream is refused (LIMIT_REACHED), sooner for a
                        client that has much under way than for others; bitmaps that are there
                        grow as guests write, but none is added; nor is a job begun that would
                        have to remember too much with them.
                        Default: an eighth of the machine's memory (or of the container's limit),
                        from 256M to 1G.
  --state_dir FOLDER    Where the service keeps events, the results of jobs and the virtual
                        machines that clients registered, so that all of it goes on after a
                        restart. Made if it is missing. Default: nothing is kept; events are then
                        numbered from 1 again by each process, and jobs of virtual machines that end
                        while the service is away stay `concluded` in QEMU until somebody calls
                        job-dismiss.

Virtual machines (clients register others with CreateInstance)
  --instance_dir FOLDER Every unix socket in this folder is the QMP monitor of a virtual machine,
                        which is known by the socket's name without .sock, .socket, .qmp or
                        .monitor. The folder is watched: machines may come and go. May be given
                        several times.
  --instances FILE      Know these from the start: {"instances": [{"id": "vm1", "address":
                        {"type": "unix", "path": "/run/vm1.qmp"}}, ...]}; an address may also be
                        of type tcp (host, port) or vsock (cid, port).
  --instance_address A  Let clients register monitors at this TCP or vsock address: HOST:PORT or
                        HOST (as requests spell it; nothing is looked up), [IPV6]:PORT or [IPV6],
                        vsock:CID:PORT or vsock:CID, or * for all. May be given several times.
                        Default: with --image_root none, without it all. Those of --instances may
                        be anywhere.
  --monitor_timeout S   Give a connection up when QEMU answers nothing for S seconds although it
                        was asked something: it hangs, or a command takes longer. Default: 30.

What it does at start
  --startup FILE        Send these requests to itself before it serves anybody: a JSON list of
                        {"method": "BlockdevAdd", "body": {...}}. The method is the name of an RPC,
                        with or without its service, or QMP's name of the command; the body is
                        the request in protobuf's JSON. A virtual machine that cannot be reached yet
                        is waited for, up to 30 seconds from the first request on. If a request
                        fails the service does not start.

  --help                Print this.
  --version             Print the version.

Stops on SIGTERM and SIGINT: of the native engine it cancels jobs, saves bitmaps and closes exports;
jobs and exports of virtual machines go on. Then it ends with status 0. A second one of these ends
it at once, with status 1, and it says what was not saved.
Ends with status 1 if it cannot start, and 2 if these flags are wrong.

Examples
  tidemarkd --listen unix:/tmp/tidemark.sock --image_root /var/lib/images
  tidemark --address unix:/tmp/tidemark.sock commands

  tidemarkd --listen 0.0.0.0:7070 --tls_cert host.pem --tls_key host.key --token_file tokens
  TIDEMARK_TOKEN=... tidemark --address host:7070 --tls_ca ca.pem commands
)";
}

}  // namespace tidemark
