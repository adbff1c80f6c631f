// The program as people use it, against the real daemon.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Starts `program`, found beside the test, with its standard streams at these descriptors.
pid_t Start(const std::string& program, const std::vector<std::string>& arguments,
            const std::array<int, 3>& streams) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  for (int i = 0; i < 3; ++i) dup2(streams[i], i);
  std::vector<char*> raw = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) raw.push_back(const_cast<char*>(argument.c_str()));
  raw.push_back(nullptr);
  execv(raw[0], raw.data());
  _exit(127);
}

int ExitStatus(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct Result {
  int exit_status;
  std::string output;
  std::string diagnostics;
};

class TidemarkTest : public testing::Test {
 protected:
  TidemarkTest() {
    char pattern[] = "/tmp/tidemark-XXXXXX";
    folder_ = mkdtemp(pattern);
    address_ = "unix:" + folder_ + "/s";
  }
  ~TidemarkTest() override {
    StopDaemon();
    std::filesystem::remove_all(folder_);
  }

  // Returns when it listens.
  void StartDaemon() {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    daemon_ = Start("service/tidemarkd", {"--listen", address_}, {0, ends[1], ends[1]});
    close(ends[1]);
    FILE* const output = fdopen(ends[0], "r");
    std::array<char, 4096> line;
    ASSERT_NE(fgets(line.data(), line.size(), output), nullptr);
    ASSERT_TRUE(absl::StrContains(line.data(), "listening")) << line.data();
    fclose(output);
  }
  void StopDaemon() {
    if (daemon_ <= 0) return;
    kill(daemon_, SIGTERM);
    EXPECT_EQ(ExitStatus(daemon_), 0);
    daemon_ = -1;
  }

  // Starts the command line, its streams in files of `name`.
  pid_t Begin(const std::string& name, std::vector<std::string> arguments,
              const std::string& input = "") {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path + ".in") << input;
    arguments.insert(arguments.begin(), {"--address", address_});
    const int in = open((path + ".in").c_str(), O_RDONLY | O_CLOEXEC);
    const int out = open((path + ".out").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const int err = open((path + ".err").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const pid_t pid = Start("service/cli/tidemark", arguments, {in, out, err});
    for (const int descriptor : {in, out, err}) close(descriptor);
    return pid;
  }
  Result End(const std::string& name, pid_t pid) {
    const int exit_status = ExitStatus(pid);
    const std::string path = absl::StrCat(folder_, "/", name);
    return {exit_status, ReadFile(path + ".out"), ReadFile(path + ".err")};
  }
  Result Run(const std::vector<std::string>& arguments, const std::string& input = "") {
    return End("run", Begin("run", arguments, input));
  }
  void ExpectDone(const std::vector<std::string>& arguments) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_status, 0) << result.diagnostics;
    EXPECT_EQ(result.diagnostics, "");
  }

  // Adds two raw disks of 8 MiB, disk0 and target0.
  void AddDisks() {
    for (const char* name : {"disk0", "target0"}) {
      const std::string path = absl::StrCat(folder_, "/", name, ".raw");
      std::ofstream(path) << "data";
      std::filesystem::resize_file(path, 8 << 20);
      ExpectDone({"blockdev-add", "driver=raw", absl::StrCat("node-name=", name),
                  "file.driver=file", absl::StrCat("file.filename=", path)});
    }
  }

  std::string folder_;
  std::string address_;
  pid_t daemon_ = -1;
};

TEST_F(TidemarkTest, AJobIsStartedWatchedAndFoundInTheHistory) {
  StartDaemon();
  AddDisks();
  Result result = Run({"blockdev-backup", "device=disk0", "target=target0", "sync=full",
                       "job-id=job0", "auto-dismiss=false"});
  EXPECT_EQ(result.exit_status, 0) << result.diagnostics;
  EXPECT_TRUE(absl::StrContains(result.output, "blockdev-backup: done")) << result.output;
  result = Run({"watch", "job0"});
  EXPECT_EQ(result.exit_status, 0) << result.diagnostics;
  EXPECT_TRUE(absl::StrContains(result.output, "100.0 %  8.0 MiB of 8.0 MiB")) << result.output;
  EXPECT_TRUE(absl::StrContains(result.output, "job0 succeeded: 8.0 MiB")) << result.output;
  EXPECT_FALSE(absl::StrContains(result.output, "\r")) << "plain lines: it is no terminal";
  EXPECT_EQ(Run({"wait", "job0"}).exit_status, 0);
  EXPECT_EQ(Run({"wait", "job0", "--for", "concluded", "--timeout=5"}).exit_status, 0);

  const Json jobs = Json::parse(Run({"--json", "query-jobs"}).output);
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0]["status"], "concluded");
  EXPECT_EQ(jobs[0]["current-progress"], 8 << 20);
  ExpectDone({"job-dismiss", "id=job0"});
  const Json job = Json::parse(Run({"--json", "get-job", R"({"id":"job0"})"}).output)["job"];
  EXPECT_EQ(job["outcome"], "succeeded");
  EXPECT_EQ(Run({"query-jobs"}).output, "none\n");
}

TEST_F(TidemarkTest, RequestsComeAsJsonOnTheLineAndOnStandardInput) {
  StartDaemon();
  AddDisks();
  ExpectDone(
      {"transaction",
       R"(actions=[{"type":"block-dirty-bitmap-add","data":{"node":"disk0","name":"b0"}}])"});
  const Result result =
      Run({"x-debug-block-dirty-bitmap-sha256", "--json", "-"}, R"({"node":"disk0","name":"b0"})");
  EXPECT_EQ(result.exit_status, 0) << result.diagnostics;
  EXPECT_EQ(Json::parse(result.output)["sha256"].get<std::string>().size(), 64u);
  // "null" is a name in JSON, and JSON's null when typed.
  EXPECT_EQ(Run({"blockdev-del", R"({"node-name":"null"})"}).exit_status, 1);
}

TEST_F(TidemarkTest, EventsComeInOrderAndGoOnWhereTheyStopped) {
  StartDaemon();
  AddDisks();
  ExpectDone({"blockdev-backup", "device=disk0", "target=target0", "sync=full", "job-id=job0"});
  ExpectDone({"wait", "job0"});
  const Result all =
      Run({"events", "--after=0", "--json", "--count=4", "--job=job0", "--kind=JOB_STATUS_CHANGE"});
  EXPECT_EQ(all.exit_status, 0) << all.diagnostics;
  std::vector<std::string> statuses;
  std::vector<uint64_t> sequences;
  std::istringstream lines(all.output);
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line);
    statuses.push_back(event["job-status-change"]["status"]);
    sequences.push_back(event["sequence"]);
  }
  EXPECT_EQ(statuses, (std::vector<std::string>{"created", "running", "waiting", "pending"}));
  const Result rest = Run(
      {"events", absl::StrCat("--after=", sequences[2]), "--count=1", "--kind=job-status-change"});
  EXPECT_TRUE(absl::StartsWith(rest.output, absl::StrCat(sequences[3], " "))) << rest.output;
  EXPECT_TRUE(absl::StrContains(rest.output, "JOB_STATUS_CHANGE id=job0 status=pending"));
}

TEST_F(TidemarkTest, ARefusalNamesReasonCodeAndObject) {
  StartDaemon();
  const Result result = Run({"block-dirty-bitmap-add", "node=nope", "name=b0"});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_TRUE(absl::StartsWith(result.diagnostics, "tidemark: NODE_NOT_FOUND (NOT_FOUND): "))
      << result.diagnostics;
  EXPECT_TRUE(absl::StrContains(result.diagnostics, "\n  node: nope\n")) << result.diagnostics;
  EXPECT_EQ(Run({"watch", "nope"}).exit_status, 1);
  EXPECT_EQ(Run({"wait", "nope"}).exit_status, 1);
}

TEST_F(TidemarkTest, AWaitThatRunsOutAndAJobThatIsCancelledFail) {
  StartDaemon();
  AddDisks();
  ExpectDone({"blockdev-backup", "device=disk0", "target=target0", "sync=full", "job-id=job0",
              "auto-finalize=false"});
  ExpectDone({"wait", "job0", "--for=pending"});
  const Result result = Run({"wait", "job0", "--timeout=0.2"});
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_TRUE(absl::StrContains(result.diagnostics, "job0 is still pending")) << result.diagnostics;
  const pid_t watch = Begin("watch", {"watch", "job0"});
  ExpectDone({"job-cancel", "id=job0"});
  const Result watched = End("watch", watch);
  EXPECT_EQ(watched.exit_status, 1);
  EXPECT_TRUE(absl::StrContains(watched.output, "job0 was cancelled\n")) << watched.output;
}

TEST_F(TidemarkTest, WrongUseEndsWithStatusTwo) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{},
                                             {"frobnicate"},
                                             {"--frobnicate"},
                                             {"job-cancel", "colour=red"},
                                             {"job-cancel", "word"},
                                             {"block-job-set-speed", "device=j", "speed=fast"},
                                             {"watch"},
                                             {"wait", "a", "b"},
                                             {"wait", "j", "--for=never"},
                                             {"events", "--kind=SURPRISE"},
                                             {"help", "frobnicate"}}) {
    const Result result = Run(arguments);
    EXPECT_EQ(result.exit_status, 2) << testing::PrintToString(arguments);
    EXPECT_NE(result.diagnostics, "") << testing::PrintToString(arguments);
    EXPECT_EQ(result.output, "") << testing::PrintToString(arguments);
  }
}

TEST_F(TidemarkTest, WithoutADaemonTheAddressIsNamed) {
  for (const char* command : {"query-jobs", "events"}) {
    const Result result = Run({command});
    EXPECT_EQ(result.exit_status, 1);
    EXPECT_TRUE(absl::StrContains(result.diagnostics, address_)) << result.diagnostics;
    EXPECT_TRUE(absl::StrContains(result.diagnostics, "tidemarkd")) << result.diagnostics;
  }
}

TEST_F(TidemarkTest, HelpAndTheListNeedNoDaemon) {
  Result result = Run({"blockdev-add", "--help"});
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_TRUE(absl::StrContains(result.output, "driver=qcow2"));
  EXPECT_EQ(Run({"commands"}).exit_status, 0);
  EXPECT_EQ(Run({"help"}).exit_status, 0);
  result = Run({"--version"});
  EXPECT_TRUE(absl::StartsWith(result.output, "tidemark ")) << result.output;
}

}  // namespace
}  // namespace tidemark
