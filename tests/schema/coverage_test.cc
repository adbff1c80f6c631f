// The protos mirror QEMU's schema, whole and nothing but: for every QEMU at hand.
#include "tests/schema/coverage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "engine/backend/command.h"
#include "qmp/options.pb.h"
#include "tests/schema/exceptions.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::test {
namespace {

// Of the system emulator, what touches block devices beyond all that qemu-storage-daemon has.
constexpr const char* kSystemCommands[] = {
    "block_set_io_throttle",
    "block-latency-histogram-set",
    "blockdev-change-medium",
    "blockdev-insert-medium",
    "blockdev-remove-medium",
    "blockdev-open-tray",
    "blockdev-close-tray",
    "cont",
    "eject",
    "query-status",
    "snapshot-delete",
    "snapshot-load",
    "snapshot-save",
    "stop",
};
constexpr const char* kSystemEvents[] = {
    "DEVICE_DELETED",
    "DEVICE_TRAY_MOVED",
    "PR_MANAGER_STATUS_CHANGED",
    "RESET",
    "RESUME",
    "SHUTDOWN",
    "STOP",
};

bool Matches(absl::string_view pattern, absl::string_view item) {
  const size_t star = pattern.find('*');
  if (star == pattern.npos) return item == pattern;
  return absl::ConsumePrefix(&item, pattern.substr(0, star)) &&
         absl::EndsWith(item, pattern.substr(star + 1));
}

// A QEMU, and what each of its programs says of the protos. Made once for all tests.
struct Judgement {
  std::string why_not;
  QemuPrograms qemu;
  std::vector<Findings> findings;
};

Judgement Judge(const QemuBuild& build) {
  Judgement judgement;
  absl::optional<QemuPrograms> qemu = AskQemu(build, &judgement.why_not);
  if (!qemu.has_value()) return judgement;
  judgement.qemu = *std::move(qemu);
  // The daemon's names come first; the emulator is asked for the same, and for its own.
  std::set<std::string> commands(std::begin(kSystemCommands), std::end(kSystemCommands));
  std::set<std::string> events(std::begin(kSystemEvents), std::end(kSystemEvents));
  for (const auto& command : judgement.qemu.programs[0].commands()) commands.insert(command.first);
  for (const auto& event : judgement.qemu.programs[0].events()) events.insert(event.first);
  for (const QemuSchema& program : judgement.qemu.programs) {
    Coverage coverage(program);
    for (const std::string& command : commands) coverage.AddCommand(command);
    for (const std::string& event : events) coverage.AddEvent(event);
    coverage.AddWhatIsUnknown();
    judgement.findings.push_back(coverage.findings());
  }
  return judgement;
}

const Judgement& OfInstalled() {
  static const Judgement* const judgement = new Judgement(Judge(QemuBuild::Installed()));
  return *judgement;
}

const Judgement& Of10() {
  static const Judgement* const judgement = new Judgement(Judge(QemuBuild::Newer()));
  return *judgement;
}

// Takes out what the exceptions let pass, and remembers which were needed.
std::vector<std::string> Faults(const std::map<std::string, std::string>& found,
                                Exception::Kind kind, std::set<const Exception*>* needed) {
  std::vector<std::string> faults;
  for (const auto& entry : found) {
    bool passes = false;
    for (const Exception& exception : Exceptions()) {
      if (exception.kind != kind || !Matches(exception.item, entry.first)) continue;
      needed->insert(&exception);
      passes = true;
    }
    if (!passes) faults.push_back(absl::StrCat(entry.first, ": ", entry.second));
  }
  return faults;
}

// What is unknown to every program that was asked for it.
std::map<std::string, std::string> UnknownToAll(const Judgement& judgement) {
  std::map<std::string, std::string> unknown;
  for (const Findings& findings : judgement.findings)
    unknown.insert(findings.unknown.begin(), findings.unknown.end());
  for (const Findings& findings : judgement.findings) {
    for (const std::string& item : findings.sought) {
      if (findings.unknown.count(item) == 0) unknown.erase(item);
    }
  }
  return unknown;
}

// "71 of 71 commands, 1204 of 1204 members, ...: 100 %".
std::string Summary(const Findings& all, const std::set<std::string>& faulty, size_t excepted) {
  std::string text;
  size_t good = 0;
  for (const char* kind : {"command", "event", "member", "branch", "alternative", "value"}) {
    size_t wanted = 0;
    size_t covered = 0;
    for (const std::string& item : all.wanted) {
      if (!absl::StartsWith(absl::StripPrefix(item, "empty "), absl::StrCat(kind, " "))) continue;
      ++wanted;
      if (faulty.count(item) == 0) ++covered;
    }
    good += covered;
    const std::string plural = std::string(kind) == "branch" ? "branches" : absl::StrCat(kind, "s");
    absl::StrAppend(&text, covered, " of ", wanted, " ", plural, ", ");
  }
  const double percent = all.wanted.empty() ? 0 : 100.0 * good / all.wanted.size();
  char figure[32];
  std::snprintf(figure, sizeof(figure), "%.4g", percent);
  return absl::StrCat(text, figure, " % (", excepted, " more are excepted, see exceptions.cc)");
}

void ExpectNothingMissing(const Judgement& judgement) {
  if (judgement.findings.empty()) GTEST_SKIP() << judgement.why_not;
  Findings all;
  for (const Findings& findings : judgement.findings) {
    all.wanted.insert(findings.wanted.begin(), findings.wanted.end());
    all.missing.insert(findings.missing.begin(), findings.missing.end());
    all.different.insert(findings.different.begin(), findings.different.end());
    all.merged.insert(findings.merged.begin(), findings.merged.end());
  }
  std::set<const Exception*> needed;
  const auto missing = Faults(all.missing, Exception::kMissing, &needed);
  const auto different = Faults(all.different, Exception::kDifferent, &needed);
  const auto merged = Faults(all.merged, Exception::kMerged, &needed);
  std::set<std::string> faulty;
  size_t excepted = 0;
  for (const auto& entry : all.missing) {
    const bool is_fault = std::find(missing.begin(), missing.end(),
                                    absl::StrCat(entry.first, ": ", entry.second)) != missing.end();
    if (is_fault) {
      faulty.insert(entry.first);
    } else {
      all.wanted.erase(entry.first);
      ++excepted;
    }
  }
  std::printf("coverage of QEMU %s: %s\n", judgement.qemu.version.c_str(),
              Summary(all, faulty, excepted).c_str());
  EXPECT_TRUE(missing.empty()) << "missing in the protos:\n" << absl::StrJoin(missing, "\n");
  EXPECT_TRUE(different.empty()) << "not the same:\n" << absl::StrJoin(different, "\n");
  EXPECT_TRUE(merged.empty()) << "without presence:\n" << absl::StrJoin(merged, "\n");
}

TEST(Schema, NothingOfTheInstalledQemuIsMissing) { ExpectNothingMissing(OfInstalled()); }

TEST(Schema, NothingOfQemu10IsMissing) { ExpectNothingMissing(Of10()); }

TEST(Schema, NothingInTheProtosIsUnknownToQemu10) {
  const Judgement& judgement = Of10();
  if (judgement.findings.empty()) GTEST_SKIP() << judgement.why_not;
  std::set<const Exception*> needed;
  const std::map<std::string, std::string> all = UnknownToAll(judgement);
  const auto unknown = Faults(all, Exception::kUnknown, &needed);
  std::set<std::string> sought;
  for (const Findings& findings : judgement.findings) {
    sought.insert(findings.sought.begin(), findings.sought.end());
  }
  std::printf("the protos in QEMU %s: it knows %zu of %zu items, and %zu more are excepted\n",
              judgement.qemu.version.c_str(), sought.size() - all.size(),
              sought.size() - all.size() + unknown.size(), all.size() - unknown.size());
  EXPECT_TRUE(unknown.empty()) << "unknown to QEMU:\n" << absl::StrJoin(unknown, "\n");
}

TEST(Schema, EveryExceptionIsNeeded) {
  if (OfInstalled().findings.empty()) GTEST_SKIP() << OfInstalled().why_not;
  if (Of10().findings.empty()) GTEST_SKIP() << Of10().why_not;
  std::set<const Exception*> needed;
  Faults(UnknownToAll(Of10()), Exception::kUnknown, &needed);
  for (const Judgement* judgement : {&OfInstalled(), &Of10()}) {
    for (const Findings& findings : judgement->findings) {
      Faults(findings.missing, Exception::kMissing, &needed);
      Faults(findings.different, Exception::kDifferent, &needed);
      Faults(findings.merged, Exception::kMerged, &needed);
    }
  }
  for (const Exception& exception : Exceptions()) {
    EXPECT_EQ(needed.count(&exception), 1u)
        << exception.item << " is excepted (" << exception.reason
        << "), but no QEMU at hand needs that";
  }
}

// The bridge keeps a book of jobs: it must know which commands start them.
TEST(Schema, EveryCommandThatNamesANewJobSaysOfWhichType) {
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    const google::protobuf::Descriptor& request = *command->method->input_type();
    const google::protobuf::FieldDescriptor* const job_id = request.FindFieldByName("job_id");
    const std::string& type = command->method->options().GetExtension(qmp::starts_job);
    EXPECT_EQ(job_id != nullptr, !type.empty()) << command->qmp_name;
    if (job_id == nullptr) continue;
    EXPECT_TRUE(job_id->options().GetExtension(qmp::job_id)) << command->qmp_name;
    EXPECT_NE(block::v1::JobType_descriptor()->FindValueByName(type), nullptr) << type;
  }
}

// The walk itself can fail: a schema that has what no proto has.
TEST(Schema, AnUnmirroredCommandWouldBeFound) {
  if (OfInstalled().findings.empty()) GTEST_SKIP() << OfInstalled().why_not;
  Coverage coverage(OfInstalled().qemu.programs[1]);
  coverage.AddCommand("device_add");
  coverage.AddEvent("POWERDOWN");
  EXPECT_EQ(coverage.findings().missing.count("command device_add"), 1u);
  EXPECT_EQ(coverage.findings().missing.count("event POWERDOWN"), 1u);
}

}  // namespace
}  // namespace tidemark::test
