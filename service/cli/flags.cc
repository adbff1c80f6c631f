#include "service/cli/flags.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::cli {
namespace {

// A century: more is a typing error, and cannot overflow a deadline.
constexpr double kTimeoutSecondsMax = 100.0 * 366 * 24 * 3600;

absl::Status Refuse(absl::string_view what) { return Error(Reason::kInvalidField, what); }

struct Flag {
  absl::string_view name;
  bool takes_value;
  // The one command that has it; empty: all.
  absl::string_view command;
  // Says what is wrong with the value; empty if nothing is.
  std::function<std::string(const std::string& value)> set;
};

// The makers of Flag::set.
auto Text(std::string* member) {
  return [member](const std::string& value) -> std::string {
    if (value.empty()) return "needs a value";
    *member = value;
    return "";
  };
}

auto On(bool* member) {
  return [member](const std::string&) -> std::string {
    *member = true;
    return "";
  };
}

auto Add(std::vector<std::string>* member) {
  return [member](const std::string& value) -> std::string {
    if (value.empty()) return "needs a value";
    member->push_back(value);
    return "";
  };
}

auto Number(absl::optional<uint64_t>* member) {
  return [member](const std::string& value) -> std::string {
    uint64_t number;
    if (!absl::SimpleAtoi(value, &number)) {
      return absl::StrCat("needs a whole number, not '", value, "'");
    }
    *member = number;
    return "";
  };
}

auto Seconds(absl::Duration* member) {
  return [member](const std::string& value) -> std::string {
    double seconds;
    absl::string_view digits = value;
    absl::ConsumeSuffix(&digits, "s");
    // Written so that what is no number at all is refused too.
    if (!absl::SimpleAtod(digits, &seconds) || !(seconds >= 0 && seconds <= kTimeoutSecondsMax)) {
      return absl::StrCat("needs a number of seconds, not '", value, "'");
    }
    *member = absl::Seconds(seconds);
    return "";
  };
}

std::vector<Flag> AllFlags(Flags* flags) {
  return {
      {"address", true, "", Text(&flags->address)},
      {"tls_ca", true, "", Text(&flags->tls_ca)},
      {"tls_cert", true, "", Text(&flags->tls_cert)},
      {"tls_key", true, "", Text(&flags->tls_key)},
      {"token_file", true, "", Text(&flags->token_file)},
      {"instance", true, "",
       [flags](const std::string& value) -> std::string {
         flags->instance = value;
         return "";
       }},
      {"timeout", true, "", Seconds(&flags->timeout)},
      {"json", false, "", On(&flags->json)},
      {"help", false, "", On(&flags->help)},
      {"version", false, "", On(&flags->version)},
      {"after", true, "events", Number(&flags->after)},
      {"count", true, "events", Number(&flags->count)},
      {"job", true, "events", Add(&flags->jobs)},
      {"node", true, "events", Add(&flags->nodes)},
      {"kind", true, "events", Add(&flags->kinds)},
      {"for", true, "wait", Add(&flags->statuses)},
  };
}

// Where to go unless --address says.
std::string DefaultAddress(const Environment& environment) {
  const absl::optional<std::string> given = environment("TIDEMARK_ADDRESS");
  if (given.has_value() && !given->empty()) return *given;
  return absl::StrCat("unix:", DefaultSocketPath(environment));
}

}  // namespace

absl::StatusOr<Flags> ParseFlags(const std::vector<std::string>& arguments,
                                 const Environment& environment) {
  Flags flags;
  const std::vector<Flag> all = AllFlags(&flags);
  std::vector<const Flag*> particular;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument == "--") {
      flags.words.insert(flags.words.end(), arguments.begin() + i + 1, arguments.end());
      break;
    }
    if (argument == "-h") argument = "--help";
    if (!absl::ConsumePrefix(&argument, "--")) {
      // "-" is standard input; a member's name cannot begin with '-'.
      if (argument.size() > 1 && argument.front() == '-') {
        return Refuse(absl::StrCat("there is no flag ", argument));
      }
      flags.words.emplace_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    std::string name(argument.substr(0, equals));
    std::replace(name.begin(), name.end(), '-', '_');
    const auto flag = std::find_if(all.begin(), all.end(),
                                   [&name](const Flag& known) { return known.name == name; });
    if (flag == all.end()) {
      return Refuse(absl::StrCat("there is no flag --", argument.substr(0, equals)));
    }
    if (!flag->takes_value && equals != absl::string_view::npos) {
      return Refuse(absl::StrCat("--", name, " takes no value"));
    }
    std::string value;
    if (equals != absl::string_view::npos) {
      value = std::string(argument.substr(equals + 1));
    } else if (flag->takes_value) {
      if (i + 1 == arguments.size()) return Refuse(absl::StrCat("--", name, " needs a value"));
      value = arguments[++i];
    }
    if (const std::string fault = flag->set(value); !fault.empty()) {
      return Refuse(absl::StrCat("--", name, " ", fault));
    }
    if (!flag->command.empty()) particular.push_back(&*flag);
  }
  for (const Flag* flag : particular) {
    if (flags.words.empty() || flags.words[0] != flag->command) {
      return Refuse(absl::StrCat("--", flag->name, " is for `tidemark ", flag->command, "` only"));
    }
  }
  if (flags.tls_cert.empty() != flags.tls_key.empty()) {
    return Refuse("--tls_cert and --tls_key go together");
  }
  if (flags.address.empty()) flags.address = DefaultAddress(environment);
  const bool has_tls = !flags.tls_ca.empty() || !flags.tls_cert.empty();
  if (!flags.token_file.empty() && !has_tls) {
    return Refuse("--token_file needs --tls_ca: a token is not sent where others could read it");
  }
  // Of the environment, where it may be meant for another address.
  if (flags.token_file.empty() && has_tls) {
    flags.token = environment("TIDEMARK_TOKEN").value_or("");
  }
  return flags;
}

std::string GeneralHelp() {
  return R"(tidemark - live block operations and backups of virtual disks, at a shell

Usage: tidemark [flags] COMMAND [member=value]...

Any command of the API, by QMP's name or the RPC's
  tidemark blockdev-add driver=qcow2 node-name=disk0 file.driver=file file.filename=/x.qcow2
  tidemark blockdev-backup device=drive0 target=target0 sync=full job-id=job0
  tidemark transaction actions='[{"type":"block-dirty-bitmap-add","data":{...}}, ...]'
  tidemark query-jobs
  tidemark get-job id=job0
  tidemark create-instance id=vm1 address.type=unix address.path=/run/vm1.qmp
  tidemark list-instances
  tidemark --instance vm1 query-jobs
A dot leads into a nested member, a comma separates the elements of a list of words, null is JSON's
null, and a value that begins with { or [ is JSON. One argument that is a JSON object, or - for
standard input, is the whole request.

  tidemark commands             All commands, with a sentence each.
  tidemark help COMMAND         The manual of a command: what it does, its members, its errors.
  tidemark watch JOB            Show a job's progress until it ends. 0 only if it succeeds.
  tidemark wait JOB [--for STATUS]... [--timeout SECONDS]
                                Wait until a job ends, or is in one of the states. 0 only if it
                                succeeds or reaches one.
  tidemark events [--after N] [--job J]... [--node N]... [--kind K]... [--count N]
                                Show events as they happen; first those after number N. Goes on by
                                itself, and misses none, when the daemon is away for a while.

Flags, anywhere on the line
  --address ADDRESS    unix:PATH or HOST:PORT. Default: $TIDEMARK_ADDRESS, else the socket where
                       tidemarkd listens by default.
  --instance NAME      The virtual machine to speak to. Default: the native engine.
  --json               Print JSON in QMP's shape, one line a response.
  --timeout SECONDS    Give up a call that takes longer. Not for what goes on: watch, events.
  --tls_ca FILE        TLS: the authority (PEM) that signed the daemon's certificate.
  --tls_cert FILE      TLS: our certificate and key (PEM), where the daemon asks for one.
  --tls_key FILE
  --token_file FILE    TLS: a file with our token, where the daemon asks for one. Default:
                       $TIDEMARK_TOKEN. A token is sent by TLS only.
  --help, --version

Ends with status 0 when done, 1 when refused or failed, 2 when the command line is wrong.
)";
}

}  // namespace tidemark::cli
