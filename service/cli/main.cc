// tidemark: the API at a shell.

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "service/cli/call.h"
#include "service/cli/client.h"
#include "service/cli/error_text.h"
#include "service/cli/events.h"
#include "service/cli/flags.h"
#include "service/cli/help.h"
#include "service/cli/methods.h"
#include "service/cli/output.h"
#include "service/cli/session.h"
#include "service/cli/watch.h"
#include "service/shared/version.h"

namespace tidemark::cli {
namespace {

int UsageError(absl::string_view what) {
  std::cerr << "tidemark: " << what << "; see tidemark --help\n";
  return kExitUsage;
}

int UnknownCommand(const std::string& name) {
  return UsageError(
      absl::StrCat("there is no command ", Printable(name), " (tidemark commands lists them)"));
}

int TerminalColumns() {
  if (isatty(STDOUT_FILENO) != 1) return 0;
  winsize size = {};
  // One that does not know its size is taken for an old one.
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// Our own words, which are no RPCs.
bool IsOurWord(absl::string_view word) {
  return word == "events" || word == "watch" || word == "wait" || word == "commands" ||
         word == "help";
}

int Help(const std::string& name) {
  if (name.empty() || IsOurWord(name)) {
    std::cout << GeneralHelp();
    return kExitDone;
  }
  const auto* const method = FindMethod(name);
  if (method == nullptr) return UnknownCommand(name);
  std::cout << CommandHelp(Manual(), *method);
  return kExitDone;
}

int RunWithDaemon(const Flags& flags) {
  const std::string& word = flags.words[0];
  const auto* const method = FindMethod(word);
  if (method == nullptr && !IsOurWord(word)) return UnknownCommand(word);
  const bool is_stream =
      word == "events" || word == "watch" || (method != nullptr && method->server_streaming());
  if (is_stream && flags.timeout != absl::InfiniteDuration()) {
    return UsageError(absl::StrCat("--timeout is for calls that are answered once; '", word,
                                   "' tells what happens for as long as it is let"));
  }
  ClientOptions options;
  options.address = flags.address;
  options.tls_ca = flags.tls_ca;
  options.tls_cert = flags.tls_cert;
  options.tls_key = flags.tls_key;
  options.token_file = flags.token_file;
  options.token = flags.token;
  options.timeout = flags.timeout;
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options);
  if (!client.ok()) {
    std::cerr << ErrorText(client.status());
    return kExitFailed;
  }
  const Session session{flags, **client, std::cout, std::cerr, TerminalColumns()};
  if (word == "events") return RunEvents(session);
  if (word == "watch") return RunWatch(session);
  if (word == "wait") return RunWait(session);
  return RunCall(session, *method);
}

int Run(const std::vector<std::string>& arguments) {
  const auto environment = [](absl::string_view name) -> absl::optional<std::string> {
    const char* const value = std::getenv(std::string(name).c_str());
    if (value == nullptr) return absl::nullopt;
    return std::string(value);
  };
  const absl::StatusOr<Flags> flags = ParseFlags(arguments, environment);
  if (!flags.ok()) return UsageError(flags.status().message());
  if (flags->version) {
    std::cout << "tidemark " << kVersion << "\n";
    return kExitDone;
  }
  const std::vector<std::string>& words = flags->words;
  if (flags->help) return Help(words.empty() ? "" : words[0]);
  if (words.empty()) {
    std::cerr << GeneralHelp();
    return kExitUsage;
  }
  if (words[0] == "help") {
    if (words.size() > 2) return UsageError("help takes one command");
    return Help(words.size() == 2 ? words[1] : "");
  }
  if (words[0] == "commands") {
    if (words.size() > 1) return UsageError("commands takes no arguments");
    std::cout << (flags->json ? CommandListJson(Manual()) : CommandList(Manual()));
    return kExitDone;
  }
  return RunWithDaemon(*flags);
}

}  // namespace
}  // namespace tidemark::cli

int main(int argc, char** argv) {
  // What gRPC would write to standard error by itself is in the errors that we print.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  const int exit_status = tidemark::cli::Run(std::vector<std::string>(argv + 1, argv + argc));
  std::cout.flush();
  if (!std::cout.good()) {
    std::cerr << "tidemark: cannot write to standard output\n";
    return tidemark::cli::kExitFailed;
  }
  return exit_status;
}
