// Runs many worlds, one after another; stops at the first that fails, tells how to see it again,
// and leaves out of it what it does not need to fail.
//
//   simulate                          so many worlds as --worlds says, from --first_seed on
//   simulate --seed=7                 one world, telling what happens
//   simulate --seed=7 --without=a,b   the same without some of its parts
//
// Each world runs in a process of its own family, so that one that aborts or never ends is a
// failure like others.
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "absl/debugging/symbolize.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/simulation/world.h"

namespace tidemark::simulation {

// Where a child tells its parent how far it is.
struct Progress {
  uint64_t seed;
  uint64_t worlds;
  WorldCounts counts;
  char parts[1 << 16];  // Of the last world, separated by commas.
  char failure[1 << 16];
};

Progress* progress = nullptr;

void Fail(const std::string& what) {
  std::snprintf(progress->failure, sizeof(progress->failure), "%s", what.c_str());
  _exit(3);
}

namespace {

// Processor time that a world may take.
constexpr int kSecondsMax = 120;

// Of the words of a failure, how many letters say what kind it is.
constexpr size_t kKindLengthMax = 16;

struct Flags {
  uint64_t seed = 0;
  uint64_t first_seed = 1;
  uint64_t worlds = 1000;
  std::set<std::string> without;
  bool shrink = true;
};

void RunOne(const WorldOptions& options) {
  const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = kSecondsMax, .tv_usec = 0}};
  setitimer(ITIMER_VIRTUAL, &limit, nullptr);
  progress->seed = options.seed;
  progress->parts[0] = '\0';
  RunWorld(
      options,
      [](const std::string& part) {
        const size_t used = std::strlen(progress->parts);
        std::snprintf(progress->parts + used, sizeof(progress->parts) - used, "%s%s",
                      used == 0 ? "" : ",", part.c_str());
      },
      &progress->counts);
  ++progress->worlds;
}

// Runs `body` in a child; true if it ends well. Else progress->failure says why.
template <typename Body>
bool InChild(bool quiet, Body body) {
  progress->failure[0] = '\0';
  const pid_t child = fork();
  if (child == 0) {
    if (quiet && std::freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    body();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (progress->failure[0] == '\0') {
    const std::string how =
        WIFSIGNALED(status)
            ? absl::StrCat("it was ended by signal ", WTERMSIG(status), " (",
                           WTERMSIG(status) == SIGVTALRM ? "it computes without end"
                                                         : strsignal(WTERMSIG(status)),
                           ")")
            : absl::StrCat("it ended with ", WEXITSTATUS(status));
    std::snprintf(progress->failure, sizeof(progress->failure), "%s", how.c_str());
  }
  return false;
}

std::string CommandFor(const WorldOptions& options) {
  return absl::StrCat(
      "bazel run //tests/simulation:simulate -- --seed=", options.seed,
      options.without.empty() ? "" : " --without=", absl::StrJoin(options.without, ","));
}

// What kind of failure it is: its words, without names and numbers.
std::string KindOf(absl::string_view failure) {
  std::string kind;
  for (const char c : failure.substr(0, failure.find('\n'))) {
    if (absl::ascii_isalpha(c) || c == ' ') kind += c;
  }
  return kind.substr(0, kKindLengthMax);
}

bool StillFails(const WorldOptions& options, const std::string& kind) {
  return !InChild(/*quiet=*/true, [&] { RunOne(options); }) && KindOf(progress->failure) == kind;
}

// Leaves out of a failing world what it can do without and still fail in the same way: halves
// first, then one by one.
WorldOptions Shrink(WorldOptions options) {
  const std::string kind = KindOf(progress->failure);
  const std::vector<std::string> parts = absl::StrSplit(progress->parts, ',', absl::SkipEmpty());
  for (size_t size = parts.size() / 2; size > 0; size /= 2) {
    for (size_t begin = 0; begin < parts.size(); begin += size) {
      WorldOptions less = options;
      for (size_t i = begin; i < std::min(begin + size, parts.size()); ++i) {
        less.without.insert(parts[i]);
      }
      if (less.without != options.without && StillFails(less, kind)) options = less;
    }
  }
  return options;
}

int RunMany(const Flags& flags) {
  const uint64_t first = flags.first_seed;
  const bool well = InChild(/*quiet=*/false, [&] {
    for (uint64_t i = 0; i < flags.worlds; ++i) RunOne({.seed = first + i});
  });
  const WorldCounts& counts = progress->counts;
  std::printf(
      "%llu worlds: %llu backups, %llu of them good, %llu errors told, %llu losses of power, %llu "
      "commands, %llu requests to disks, %llu turns\n",
      static_cast<unsigned long long>(progress->worlds),
      static_cast<unsigned long long>(counts.backups),
      static_cast<unsigned long long>(counts.good_backups),
      static_cast<unsigned long long>(counts.errors),
      static_cast<unsigned long long>(counts.power_losses),
      static_cast<unsigned long long>(counts.calls),
      static_cast<unsigned long long>(counts.requests),
      static_cast<unsigned long long>(counts.turns));
  if (well) return 0;
  WorldOptions options{.seed = progress->seed};
  std::printf("FAILED: %s\nTo see it again:\n  %s\n", progress->failure,
              CommandFor(options).c_str());
  std::fflush(stdout);
  if (!flags.shrink) return 1;
  const std::string kind = KindOf(progress->failure);
  const WorldOptions less = Shrink(options);
  StillFails(less, kind);
  std::printf("The same with less: %s\n  %s\n", progress->failure, CommandFor(less).c_str());
  return 1;
}

int RunSeed(const Flags& flags) {
  WorldOptions options{.seed = flags.seed, .without = flags.without, .tells = true};
  const bool well = InChild(/*quiet=*/false, [&] { RunOne(options); });
  std::printf("world %llu %s\n", static_cast<unsigned long long>(flags.seed),
              well ? "is well" : absl::StrCat("FAILED: ", progress->failure).c_str());
  return well ? 0 : 1;
}

// A test that is split runs a part of the worlds in each piece.
void TakeShare(Flags* flags) {
  uint64_t count = 1;
  uint64_t index = 0;
  const char* const total = std::getenv("TEST_TOTAL_SHARDS");
  const char* const mine = std::getenv("TEST_SHARD_INDEX");
  if (total == nullptr || mine == nullptr || !absl::SimpleAtoi(total, &count) ||
      !absl::SimpleAtoi(mine, &index) || count == 0) {
    return;
  }
  if (const char* const file = std::getenv("TEST_SHARD_STATUS_FILE")) {
    if (std::FILE* const touched = std::fopen(file, "w")) std::fclose(touched);
  }
  const uint64_t begin = flags->worlds * index / count;
  const uint64_t end = flags->worlds * (index + 1) / count;
  flags->first_seed += begin;
  flags->worlds = end - begin;
}

int Main(int argc, char** argv) {
  absl::InitializeSymbolizer(argv[0]);
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::pair<absl::string_view, absl::string_view> flag =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    bool understood = true;
    if (flag.first == "--seed") {
      understood = absl::SimpleAtoi(flag.second, &flags.seed);
    } else if (flag.first == "--first_seed") {
      understood = absl::SimpleAtoi(flag.second, &flags.first_seed);
    } else if (flag.first == "--worlds") {
      understood = absl::SimpleAtoi(flag.second, &flags.worlds);
    } else if (flag.first == "--without") {
      flags.without = absl::StrSplit(flag.second, ',', absl::SkipEmpty());
    } else if (flag.first == "--noshrink") {
      flags.shrink = false;
    } else {
      understood = false;
    }
    if (!understood) {
      std::fprintf(stderr, "not understood: %s\n", argv[i]);
      return 2;
    }
  }
  void* const shared =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return 2;
  progress = new (shared) Progress();
  if (flags.seed != 0) return RunSeed(flags);
  TakeShare(&flags);
  return RunMany(flags);
}

}  // namespace
}  // namespace tidemark::simulation

int main(int argc, char** argv) { return tidemark::simulation::Main(argc, argv); }
