#include "engine/backend/validate.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/backend/limits.h"
#include "engine/base/error.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/event.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/job_watch.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

template <typename Request>
Request Parse(const std::string& text) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

// "INVALID_FIELD speed" for a refusal, "" if all is well.
std::string Verdict(const absl::Status& status) {
  if (status.ok()) return "";
  const auto details = DetailsOf(status);
  if (!details.has_value()) return status.ToString();
  std::string verdict(NameOf(details->reason));
  for (const auto& [key, value] : details->metadata) {
    if (key == "field") absl::StrAppend(&verdict, " ", value);
  }
  return verdict;
}

template <typename Request>
std::string Judge(const std::string& text) {
  return Verdict(Validate(Parse<Request>(text)));
}

constexpr char kBackup[] = R"(job_id: "j" device: "d" target: "t" sync: MIRROR_SYNC_MODE_FULL )";

TEST(Validate, AGoodRequestPasses) { EXPECT_EQ(Judge<v1::BlockdevBackupRequest>(kBackup), ""); }

TEST(Validate, ARequiredStringMustNotBeEmpty) {
  EXPECT_EQ(
      Judge<v1::BlockdevBackupRequest>(R"(job_id: "j" target: "t" sync: MIRROR_SYNC_MODE_FULL)"),
      "INVALID_FIELD device");
}

TEST(Validate, ARequiredEnumMustBeSpecified) {
  EXPECT_EQ(Judge<v1::BlockdevBackupRequest>(R"(job_id: "j" device: "d" target: "t")"),
            "INVALID_FIELD sync");
}

TEST(Validate, ARequiredNumberMayBeZeroButMustBeThere) {
  EXPECT_EQ(Judge<v1::BlockdevCreateRequest>(
                R"(job_id: "j" options { file { filename: "/f" size: 0 } })"),
            "");
  EXPECT_EQ(Judge<v1::BlockdevCreateRequest>(R"(job_id: "j" options { file { filename: "/f" } })"),
            "INVALID_FIELD options.file.size");
}

TEST(Validate, AUnionNeedsACase) {
  EXPECT_EQ(Judge<v1::BlockdevCreateRequest>(R"(job_id: "j" options { })"),
            "INVALID_FIELD options.driver");
  EXPECT_EQ(Judge<v1::TransactionRequest>(R"(actions { })"), "INVALID_FIELD actions[0].action");
}

TEST(Validate, AnIntegerBelowItsRangeIsRefusedWithPathAndValue) {
  const absl::Status status =
      Validate(Parse<v1::BlockdevBackupRequest>(absl::StrCat(kBackup, "speed: -5")));
  EXPECT_EQ(Verdict(status), "INVALID_FIELD speed");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "-5")) << status;
}

TEST(Validate, ThePathLeadsThroughListsAndUnions) {
  EXPECT_EQ(Judge<v1::TransactionRequest>(absl::StrCat(
                "actions { abort {} } actions { blockdev_backup { ", kBackup, "speed: -5 } }")),
            "INVALID_FIELD actions[1].blockdev_backup.speed");
}

TEST(Validate, GranularityIsAPowerOfTwoInItsRange) {
  const auto judge = [](uint64_t granularity) {
    return Judge<v1::BlockDirtyBitmapAddRequest>(
        absl::StrCat(R"(node: "n" name: "b" granularity: )", granularity));
  };
  EXPECT_EQ(judge(512), "");
  EXPECT_EQ(judge(2147483648), "");
  EXPECT_EQ(judge(0), "INVALID_FIELD granularity");
  EXPECT_EQ(judge(256), "INVALID_FIELD granularity");
  EXPECT_EQ(judge(65537), "INVALID_FIELD granularity");
  EXPECT_EQ(judge(4294967295), "INVALID_FIELD granularity");
}

TEST(Validate, AnUnsignedNumberBeyondSignedIsNotTakenForNegative) {
  const auto judge = [](const std::string& size) {
    return Judge<v1::BlockExportAddRequest>(absl::StrCat(
        R"(id: "e" node_name: "n" vduse_blk { name: "d" logical_block_size: )", size, "}"));
  };
  EXPECT_EQ(judge("9223372036854775808"), "") << "2^63 is a power of two";
  EXPECT_EQ(judge("9223372036854775809"), "INVALID_FIELD vduse_blk.logical_block_size");
}

TEST(Validate, WhatWouldCrashAQemuIsRefused) {
  EXPECT_EQ(Judge<v1::BlockdevBackupRequest>(
                absl::StrCat(kBackup, "x_perf { min_cluster_size: 134217728 }")),
            "");
  EXPECT_EQ(Judge<v1::BlockdevBackupRequest>(
                absl::StrCat(kBackup, "x_perf { min_cluster_size: 268435456 }")),
            "INVALID_FIELD x_perf.min_cluster_size");
  EXPECT_EQ(Judge<v1::BlockdevReopenRequest>(""), "INVALID_FIELD options");
  EXPECT_EQ(Judge<v1::BlockDirtyBitmapMergeRequest>(R"(node: "n" target: "b")"),
            "INVALID_FIELD bitmaps");
}

TEST(Validate, NamesThatMustBeIdentifiersAre) {
  const auto judge = [](const std::string& job_id) {
    return Judge<v1::BlockdevCreateRequest>(
        absl::StrCat("job_id: \"", job_id, R"(" options { file { filename: "/f" size: 0 } })"));
  };
  EXPECT_EQ(judge("job-0.a_B"), "");
  EXPECT_EQ(judge("0job"), "INVALID_FIELD job_id");
  EXPECT_EQ(judge("a b"), "INVALID_FIELD job_id");
  EXPECT_EQ(judge("#a"), "INVALID_FIELD job_id");
  EXPECT_EQ(judge("j\xc3\xb6"
                  "b"),
            "INVALID_FIELD job_id");
}

TEST(Validate, LengthsAreBounded) {
  const auto judge = [](size_t length) {
    return Judge<v1::BlockDirtyBitmapAddRequest>(
        absl::StrCat(R"(node: "n" name: ")", std::string(length, 'x'), "\""));
  };
  EXPECT_EQ(judge(1023), "");
  EXPECT_EQ(judge(1024), "INVALID_FIELD name");
}

TEST(Validate, ALongValueIsCutInTheMessage) {
  const absl::Status status = Validate(Parse<v1::BlockDirtyBitmapAddRequest>(
      absl::StrCat(R"(node: "n" name: ")", std::string(100'000, 'x'), "\"")));
  EXPECT_LT(status.message().size(), 300u);
}

TEST(Validate, AnEnumValueNobodyKnowsIsRefused) {
  auto request = Parse<v1::BlockdevBackupRequest>(kBackup);
  request.set_sync(static_cast<v1::MirrorSyncMode>(77));
  const absl::Status status = Validate(request);
  EXPECT_EQ(Verdict(status), "INVALID_FIELD sync");
  EXPECT_TRUE(absl::StrContains(status.message(), "77")) << status;
}

TEST(Validate, AListOfEnumsHoldsNothingUnspecified) {
  v1::WatchEventsRequest request;
  request.add_kinds(v1::EVENT_KIND_JOB_PROGRESS);
  request.add_kinds(v1::EVENT_KIND_UNSPECIFIED);
  EXPECT_EQ(Verdict(Validate(request)), "INVALID_FIELD kinds[1]");
}

TEST(Validate, AFieldNobodyKnowsIsRefusedByItsNumber) {
  auto request = Parse<v1::BlockdevBackupRequest>(kBackup);
  request.GetReflection()->MutableUnknownFields(&request)->AddVarint(4711, 1);
  const absl::Status status = Validate(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(absl::StrContains(status.message(), "4711")) << status;
}

TEST(Validate, ADurationIsHeldToItsRange) {
  EXPECT_EQ(Judge<v1::WatchEventsRequest>("heartbeat_interval { nanos: 100000000 }"), "");
  EXPECT_EQ(Judge<v1::WatchEventsRequest>("heartbeat_interval { nanos: 99000000 }"),
            "INVALID_FIELD heartbeat_interval");
  EXPECT_EQ(Judge<v1::WatchEventsRequest>("heartbeat_interval { seconds: 3601 }"),
            "INVALID_FIELD heartbeat_interval");
  EXPECT_EQ(Judge<v1::WatchEventsRequest>("heartbeat_interval { seconds: 1 nanos: -1 }"),
            "INVALID_FIELD heartbeat_interval");
}

TEST(Validate, OnlyTheOutermostRequestNamesTheInstance) {
  EXPECT_EQ(Judge<v1::TransactionRequest>(R"(instance: "vm1" actions { abort {} })"), "");
  EXPECT_EQ(Judge<v1::TransactionRequest>(
                R"(actions { block_dirty_bitmap_clear { instance: "vm1" node: "n" name: "b" } })"),
            "INVALID_FIELD actions[0].block_dirty_bitmap_clear.instance");
}

TEST(Validate, ARuleRequiresAField) {
  const absl::Status status = Validate(Parse<v1::BlockdevBackupRequest>(
      R"(job_id: "j" device: "d" target: "t" sync: MIRROR_SYNC_MODE_INCREMENTAL)"));
  EXPECT_EQ(Verdict(status), "INVALID_COMBINATION bitmap");
  EXPECT_TRUE(absl::StrContains(status.message(), "sync")) << status;
  EXPECT_EQ(Judge<v1::BlockdevAddRequest>(R"(options { file { filename: "/f" } })"),
            "INVALID_COMBINATION options.node_name");
}

TEST(Validate, ARuleNamesTheValuesThatDoNotGoTogether) {
  const absl::Status required = Validate(Parse<v1::BlockdevBackupRequest>(
      R"(job_id: "j" device: "d" target: "t" sync: MIRROR_SYNC_MODE_INCREMENTAL)"));
  EXPECT_TRUE(absl::StrContains(required.message(), "MIRROR_SYNC_MODE_INCREMENTAL")) << required;
  const absl::Status forbidden = Validate(Parse<v1::BlockdevBackupRequest>(
      R"(job_id: "j" device: "d" target: "t" sync: MIRROR_SYNC_MODE_FULL bitmap: "b"
         bitmap_mode: BITMAP_SYNC_MODE_NEVER)"));
  EXPECT_TRUE(absl::StrContains(forbidden.message(), "MIRROR_SYNC_MODE_FULL")) << forbidden;
  EXPECT_TRUE(absl::StrContains(forbidden.message(), "BITMAP_SYNC_MODE_NEVER")) << forbidden;
}

TEST(Validate, ARuleForbidsAField) {
  EXPECT_EQ(Judge<v1::BlockdevBackupRequest>(
                R"(job_id: "j" device: "d" target: "t" sync: MIRROR_SYNC_MODE_NONE bitmap: "b")"),
            "INVALID_COMBINATION bitmap");
}

TEST(Validate, ARuleLooksIntoEveryElementOfAList) {
  EXPECT_EQ(Judge<v1::TransactionRequest>(absl::StrCat(
                "properties { completion_mode: ACTION_COMPLETION_MODE_GROUPED } actions { "
                "blockdev_backup { ",
                kBackup, R"( } } actions { block_dirty_bitmap_clear { node: "n" name: "b" } })")),
            "INVALID_COMBINATION actions[1].block_dirty_bitmap_clear");
}

TEST(Validate, NestingIsBounded) {
  v1::BlockdevAddRequest request;
  v1::BlockdevOptions* options = request.mutable_options();
  for (int i = 0; i < 1000; ++i)
    options = options->mutable_raw()->mutable_file()->mutable_definition();
  EXPECT_EQ(Validate(request).code(), absl::StatusCode::kResourceExhausted);
}

TEST(Validate, TheNumberOfValuesIsBounded) {
  v1::ListJobsRequest request;
  for (int i = 0; i < 200'000; ++i) request.add_node_names("n");
  EXPECT_EQ(Validate(request).code(), absl::StatusCode::kResourceExhausted);
}

TEST(Validate, AListIsBoundedWhereItsFieldDoesNotSayHow) {
  v1::WatchEventsRequest request;
  for (uint32_t i = 0; i < kRequestItemsMax; ++i) request.add_job_ids("j");
  EXPECT_EQ(Validate(request), absl::OkStatus());
  request.add_job_ids("j");
  const absl::Status status = Validate(request);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "Field 'job_ids' has 1025 elements, but must have at most 1024");
}

TEST(Validate, ATransactionMayHaveThousandsOfActions) {
  v1::TransactionRequest request;
  for (int i = 0; i < 4'096; ++i) request.add_actions()->mutable_abort();
  EXPECT_EQ(Validate(request), absl::OkStatus());
  request.add_actions()->mutable_abort();
  EXPECT_EQ(Validate(request).code(), absl::StatusCode::kInvalidArgument);
}

TEST(CheckEngine, RefusesAFieldOfTheOtherEngine) {
  const auto request =
      Parse<v1::BlockdevBackupRequest>(absl::StrCat(kBackup, "discard_source: true"));
  EXPECT_TRUE(CheckEngine(request, EngineKind::kQemu).ok());
  const absl::Status status = CheckEngine(request, EngineKind::kNative);
  EXPECT_EQ(Verdict(status), "FIELD_UNSUPPORTED discard_source");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
}

TEST(CheckPaths, ShowsEveryFileNameDownTheTree) {
  const auto request = Parse<v1::BlockdevAddRequest>(
      R"(options { node_name: "n" qcow2 {
           file { definition { file { filename: "/a" } } }
           backing { definition { raw {
             file { definition { file { filename: "/b" } } } } } } } })");
  std::vector<std::string> seen;
  EXPECT_TRUE(CheckPaths(request, [&seen](absl::string_view name, qmp::Path use) {
                EXPECT_EQ(use, qmp::PATH_FILE);
                seen.emplace_back(name);
                return absl::OkStatus();
              }).ok());
  EXPECT_THAT(seen, testing::UnorderedElementsAre("/a", "/b"));
}

TEST(CheckPaths, HandsOnTheRefusalWithThePathOfTheField) {
  const auto request =
      Parse<v1::BlockdevAddRequest>(R"(options { node_name: "n" file { filename: "/a" } })");
  const absl::Status status = CheckPaths(
      request, [](absl::string_view, qmp::Path) { return Error(Reason::kPathForbidden, "no"); });
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kPathForbidden);
  EXPECT_TRUE(absl::StrContains(status.message(), "options.file.filename")) << status;
}

}  // namespace
}  // namespace tidemark::backend
