// Refusals of what is asked of a node say which values they are about, so that nobody has to guess
// which of a hundred options was meant.
#include "engine/native/option_checks.h"

#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/graph/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevOptionsQcow2;
using ::testing::AllOf;
using ::testing::HasSubstr;

void ExpectRefused(const absl::Status& status, Reason reason,
                   const ::testing::Matcher<std::string>& message) {
  const auto details = DetailsOf(status);
  ASSERT_TRUE(details.has_value()) << status;
  EXPECT_EQ(NameOf(details->reason), NameOf(reason));
  EXPECT_THAT(std::string(status.message()), message);
}

// ---- Options that go together

TEST(OptionChecks, WhatDetectZeroesNeedsIsNamedWithWhatItIs) {
  graph::NodeSpec spec{.name = "disk0"};
  spec.options.detect_zeroes = graph::DetectZeroes::kUnmap;
  ExpectRefused(CheckOptions(spec, {}), Reason::kInvalidCombination,
                AllOf(HasSubstr("\"disk0\""), HasSubstr("detect_zeroes UNMAP"),
                      HasSubstr("discard is IGNORE")));
  spec.options.discard = graph::DiscardMode::kUnmap;
  EXPECT_TRUE(CheckOptions(spec, {}).ok());
}

TEST(OptionChecks, WhatForceShareNeedsIsNamedWithWhatItIs) {
  graph::NodeSpec spec{.name = "disk0"};
  spec.options.force_share = true;
  ExpectRefused(CheckOptions(spec, {}), Reason::kInvalidCombination,
                AllOf(HasSubstr("\"disk0\""), HasSubstr("force_share true"),
                      HasSubstr("read_only is false")));
  spec.options.read_only = true;
  EXPECT_TRUE(CheckOptions(spec, {}).ok());
}

TEST(OptionChecks, WhatNativeAioNeedsIsNamedWithWhatItIsAndTheFile) {
  graph::NodeSpec spec{.name = "disk0"};
  BlockdevOptions options;
  options.mutable_file()->set_filename("/images/disk0");
  options.mutable_file()->set_aio(block::v1::BLOCKDEV_AIO_OPTIONS_NATIVE);
  ExpectRefused(CheckOptions(spec, options), Reason::kInvalidCombination,
                AllOf(HasSubstr("\"disk0\""), HasSubstr("aio NATIVE"),
                      HasSubstr("\"/images/disk0\""), HasSubstr("cache.direct is false")));
  spec.options.cache_direct = true;
  EXPECT_TRUE(CheckOptions(spec, options).ok());
}

// ---- Sizes

TEST(OptionChecks, SizesOfCachesThatDoNotGoTogetherAreAllNamed) {
  BlockdevOptionsQcow2 caches;
  caches.set_cache_size(1'000'001);
  caches.set_l2_cache_size(1'000'002);
  ExpectRefused(
      CheckCaches(caches, "disk0", 65536), Reason::kInvalidCombination,
      AllOf(HasSubstr("l2_cache_size 1000002"), HasSubstr("is more than cache_size 1000001")));
  caches.clear_l2_cache_size();
  caches.set_refcount_cache_size(1'000'003);
  ExpectRefused(CheckCaches(caches, "disk0", 65536), Reason::kInvalidCombination,
                AllOf(HasSubstr("refcount_cache_size 1000003"),
                      HasSubstr("is more than cache_size 1000001")));
  caches.set_l2_cache_size(4);
  caches.set_refcount_cache_size(5);
  ExpectRefused(CheckCaches(caches, "disk0", 65536), Reason::kInvalidCombination,
                AllOf(HasSubstr("cache_size 1000001"), HasSubstr("l2_cache_size 4"),
                      HasSubstr("refcount_cache_size 5")));
}

TEST(OptionChecks, ASizeThatIsTooLargeIsNamedWithTheLimit) {
  const int64_t most = std::numeric_limits<int32_t>::max();
  BlockdevOptionsQcow2 caches;
  caches.set_refcount_cache_size((most + 1) * 512);
  ExpectRefused(CheckCaches(caches, "disk0", 512), Reason::kInvalidField,
                AllOf(HasSubstr(absl::StrCat("refcount_cache_size ", (most + 1) * 512)),
                      HasSubstr(absl::StrCat("at most ", most)), HasSubstr("512")));
  BlockdevOptionsQcow2 entries;
  entries.set_l2_cache_entry_size(131072);
  ExpectRefused(CheckCaches(entries, "disk0", 65536), Reason::kInvalidField,
                AllOf(HasSubstr("l2_cache_entry_size 131072"), HasSubstr("65536")));
}

TEST(OptionChecks, ASizeOfNoWholeSectorsIsNamed) {
  ExpectRefused(CheckWholeSectors("disk0", 1000), Reason::kInvalidField,
                AllOf(HasSubstr("\"disk0\""), HasSubstr("1000"), HasSubstr("512")));
}

TEST(OptionChecks, AChainThatIsTooDeepIsNamedByFileDepthAndLimit) {
  BlockdevOptions options;
  options.mutable_qcow2()->mutable_file()->mutable_definition()->mutable_file()->set_filename(
      "/images/deep");
  ExpectRefused(TooDeepError(options, 4711), Reason::kLimitReached,
                AllOf(HasSubstr("\"/images/deep\""), HasSubstr("4711"),
                      HasSubstr(absl::StrCat(graph::kGraphDepthMax))));
}

}  // namespace
}  // namespace tidemark::native
