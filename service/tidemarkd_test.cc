// The daemon as a process: how it starts, what it prints, how it ends.
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"
#include "tidemark/block/v1/node.grpc.pb.h"

namespace tidemark {
namespace {

namespace v1 = ::tidemark::block::v1;

// A running tidemarkd with its standard output and error in one pipe. Killed when destroyed.
class Daemon {
 public:
  // `file_bytes_max`: as `ulimit -f`.
  explicit Daemon(const std::vector<std::string>& flags, rlim_t file_bytes_max = RLIM_INFINITY) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      const rlimit limit{file_bytes_max, file_bytes_max};
      setrlimit(RLIMIT_FSIZE, &limit);
      std::vector<std::string> arguments = {"service/tidemarkd"};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      std::vector<char*> raw;
      for (std::string& argument : arguments) raw.push_back(argument.data());
      raw.push_back(nullptr);
      execv(raw[0], raw.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = fdopen(ends[0], "r");
  }
  ~Daemon() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    fclose(output_);
  }

  // Waits for one line; empty at the end.
  std::string Line() {
    std::array<char, 4096> buffer;
    return fgets(buffer.data(), buffer.size(), output_) == nullptr ? "" : buffer.data();
  }
  // Everything until the end.
  std::string Rest() {
    std::string all;
    for (std::string line = Line(); !line.empty(); line = Line()) all += line;
    return all;
  }
  void Signal(int number) { kill(pid_, number); }
  // Waits for its end: the exit status, or -1 if a signal killed it.
  int ExitStatus() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  FILE* output_ = nullptr;
};

class TidemarkdTest : public testing::Test {
 protected:
  TidemarkdTest() {
    char pattern[] = "/tmp/tidemarkd-XXXXXX";
    folder_ = mkdtemp(pattern);
    address_ = "unix:" + folder_ + "/s";
  }
  ~TidemarkdTest() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }

  // Whether the daemon serves.
  bool Answers() {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    return v1::JobService::NewStub(
               grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()))
        ->ListJobs(&context, v1::ListJobsRequest(), &response)
        .ok();
  }

  std::string folder_;
  std::string address_;
};

TEST_F(TidemarkdTest, SaysWhereItListensServesAndStopsCleanlyOnSigterm) {
  Daemon daemon({"--listen", address_, "--listen=127.0.0.1:0", "--insecure"});
  EXPECT_TRUE(absl::StrContains(daemon.Line(), "warning: --insecure"));
  EXPECT_EQ(daemon.Line(), absl::StrCat("tidemarkd: listening on ", address_, "\n"));
  EXPECT_TRUE(absl::StartsWith(daemon.Line(), "tidemarkd: listening on 127.0.0.1:"));
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::ListJobsResponse response;
  EXPECT_TRUE(
      v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response).ok());
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0);
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "the socket is gone";
}

// What would kill a program that does not expect it.
TEST_F(TidemarkdTest, ServesOnAfterSignalsThatAreNoOrderToStop) {
  Daemon daemon({"--listen", address_});
  daemon.Line();
  for (const int number : {SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGVTALRM, SIGPROF, SIGPOLL,
                           SIGXFSZ, SIGPWR, SIGSTKFLT, SIGRTMIN, SIGRTMIN + 1, SIGRTMAX}) {
    daemon.Signal(number);
    EXPECT_TRUE(Answers()) << number;
  }
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

TEST_F(TidemarkdTest, AnEndOfItsTimeOnTheProcessorIsAnOrderToStop) {
  Daemon daemon({"--listen", address_});
  daemon.Line();
  daemon.Signal(SIGXCPU);
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

// `ulimit -f`: the kernel sends SIGXFSZ with each write beyond it.
TEST_F(TidemarkdTest, AFileThatMayNotGrowIsAnErrorOfItsJob) {
  Daemon daemon({"--listen", address_}, 1 << 20);
  daemon.Line();
  v1::BlockdevCreateRequest create;
  create.set_job_id("create");
  create.mutable_options()->mutable_file()->set_filename(folder_ + "/large");
  create.mutable_options()->mutable_file()->set_size(8 << 20);
  create.mutable_options()->mutable_file()->set_preallocation(v1::PREALLOC_MODE_FULL);
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  {
    grpc::ClientContext context;
    v1::BlockdevCreateResponse response;
    const grpc::Status status =
        v1::NodeService::NewStub(channel)->BlockdevCreate(&context, create, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  grpc::ClientContext context;
  v1::WaitJobRequest wait;
  wait.set_id("create");
  v1::WaitJobResponse response;
  const grpc::Status status = v1::JobService::NewStub(channel)->WaitJob(&context, wait, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.job().outcome(), v1::JOB_OUTCOME_FAILED);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

TEST_F(TidemarkdTest, TheOrderToStopEndsAStartThatWaitsForAVirtualMachine) {
  // A monitor that takes the connection and never says a word.
  const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  (folder_ + "/vm").copy(name.sun_path, sizeof(name.sun_path) - 1);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  const std::string machines =
      Write("machines.json",
            absl::StrCat(R"({"instances": [{"id": "vm", "address": {"type": "unix", "path": ")",
                         folder_, R"(/vm"}}]})"));
  const std::string startup =
      Write("startup.json",
            R"([{"method": "BlockdevDel", "body": {"instance": "vm", "nodeName": "n"}}])");
  Daemon daemon({"--listen", address_, "--instances", machines, "--startup", startup});
  const int monitor = accept(listener, nullptr, nullptr);
  EXPECT_GE(monitor, 0);
  daemon.Signal(SIGTERM);
  const std::string output = daemon.Rest();
  EXPECT_FALSE(absl::StrContains(output, "listening")) << output;
  EXPECT_FALSE(absl::StrContains(output, "request 0")) << "its patience has not ended: " << output;
  EXPECT_EQ(daemon.ExitStatus(), 0) << output;
  close(monitor);
  close(listener);
}

TEST_F(TidemarkdTest, StopsAlsoWhileSomebodyWatches) {
  Daemon daemon({"--listen", address_});
  daemon.Line();
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  const auto stub = v1::EventService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse response;
  EXPECT_TRUE(reader->Read(&response));
  daemon.Signal(SIGINT);
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

TEST_F(TidemarkdTest, WrongFlagsEndItWithStatusTwo) {
  Daemon daemon({"--nonsense"});
  EXPECT_TRUE(absl::StrContains(daemon.Rest(), "--nonsense"));
  EXPECT_EQ(daemon.ExitStatus(), 2);
}

TEST_F(TidemarkdTest, HelpIsPrintedAndIsNoError) {
  Daemon daemon({"--help"});
  EXPECT_TRUE(absl::StrContains(daemon.Rest(), "--listen ADDRESS"));
  EXPECT_EQ(daemon.ExitStatus(), 0);
}

TEST_F(TidemarkdTest, AnImageRootThatIsNotThereEndsItWithStatusOne) {
  Daemon daemon({"--listen", address_, "--image_root", folder_ + "/nowhere"});
  EXPECT_TRUE(absl::StrContains(daemon.Rest(), folder_ + "/nowhere"));
  EXPECT_EQ(daemon.ExitStatus(), 1);
}

TEST_F(TidemarkdTest, AStartupRequestThatFailsEndsItBeforeItListens) {
  const std::string startup =
      Write("startup.json",
            R"([{"method": "BlockdevDel", "body": {"instance": "no-such-vm", "nodeName": "n"}}])");
  Daemon daemon({"--listen", address_, "--startup", startup});
  const std::string output = daemon.Rest();
  EXPECT_TRUE(absl::StrContains(output, "request 0 (BlockdevDel)")) << output;
  EXPECT_FALSE(absl::StrContains(output, "listening")) << output;
  EXPECT_EQ(daemon.ExitStatus(), 1);
}

TEST_F(TidemarkdTest, ASecondDaemonDoesNotTakeTheSocket) {
  Daemon first({"--listen", address_});
  first.Line();
  Daemon second({"--listen", address_});
  EXPECT_TRUE(absl::StrContains(second.Rest(), "another daemon"));
  EXPECT_EQ(second.ExitStatus(), 1);
}

TEST_F(TidemarkdTest, AKilledDaemonIsFollowedByAnother) {
  {
    Daemon first({"--listen", address_});
    first.Line();
    first.Signal(SIGKILL);
    EXPECT_EQ(first.ExitStatus(), -1);
  }
  Daemon second({"--listen", address_});
  EXPECT_TRUE(absl::StrContains(second.Line(), address_));
}

}  // namespace
}  // namespace tidemark
