#include "service/cli/arguments.h"

#include "gtest/gtest.h"
#include "tidemark/block/v1/job_verbs.pb.h"
#include "tidemark/block/v1/job_watch.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::cli {
namespace {

namespace v1 = ::tidemark::block::v1;

std::string Parsed(const std::vector<std::string>& arguments) {
  const absl::StatusOr<qmp::Json> json = JsonFromArguments(arguments);
  return json.ok() ? json->dump() : std::string(json.status().message());
}

TEST(ArgumentsTest, DotsLeadIntoNestedMembers) {
  EXPECT_EQ(Parsed({"driver=qcow2", "file.driver=file", "file.filename=/a=b.c"}),
            R"({"driver":"qcow2","file":{"driver":"file","filename":"/a=b.c"}})");
  EXPECT_EQ(Parsed({}), "{}");
  EXPECT_EQ(Parsed({"name="}), R"({"name":""})");
}

TEST(ArgumentsTest, ValuesThatBeginLikeJsonAreJson) {
  EXPECT_EQ(Parsed({R"(a=[1,{"b":null}])"}), R"({"a":[1,{"b":null}]})");
  EXPECT_EQ(Parsed({R"(a={"b":1})", "a.c=2"}), R"({"a":{"b":1,"c":"2"}})");
}

TEST(ArgumentsTest, WhatCannotBeMeantIsRefused) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"word"},
                                             {"=value"},
                                             {"a..b=1"},
                                             {".a=1"},
                                             {"a.=1"},
                                             {"a=1", "a=2"},
                                             {"a=1", "a.b=2"},
                                             {"a.b=1", "a=2"},
                                             {"a=[1", "b=2"},
                                             {"a=[1]", "a.b=2"},
                                             {R"(a={"b":null})", "a.b.c=1"}}) {
    EXPECT_EQ(JsonFromArguments(arguments).status().code(), absl::StatusCode::kInvalidArgument)
        << arguments[0];
  }
}

TEST(ArgumentsTest, AWholeRequestIsAJsonObject) {
  EXPECT_EQ(JsonFromText("{\"id\": 18446744073709551615}\n")->dump(),
            R"({"id":18446744073709551615})");
  EXPECT_FALSE(JsonFromText("[]").ok());
  EXPECT_FALSE(JsonFromText("{").ok());
  EXPECT_FALSE(JsonFromText("").ok());
}

TEST(ArgumentsTest, TheInstanceGoesWhereTheRequestHasIt) {
  v1::JobCancelRequest cancel;
  ASSERT_TRUE(FillRequest({{"id", "j"}}, qmp::Strictness::kTyped, "vm0", &cancel).ok());
  EXPECT_EQ(cancel.instance(), "vm0");
  v1::ListJobsRequest list;
  ASSERT_TRUE(FillRequest(qmp::Json::object(), qmp::Strictness::kTyped, std::string(), &list).ok());
  ASSERT_EQ(list.instances_size(), 1);
  EXPECT_EQ(list.instances(0), "");
  list.Clear();
  ASSERT_TRUE(FillRequest(qmp::Json::object(), qmp::Strictness::kTyped, absl::nullopt, &list).ok());
  EXPECT_EQ(list.instances_size(), 0);
}

}  // namespace
}  // namespace tidemark::cli
