// The list of differences itself.
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/differences.h"

namespace tidemark::test {
namespace {

TEST(Differences, EachIsOfAScenarioAndAnEngineThatExist) {
  const ::testing::UnitTest& all = *::testing::UnitTest::GetInstance();
  std::set<std::string> names;
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const ::testing::TestSuite& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      names.insert(absl::StrCat(suite.name(), ".", suite.GetTestInfo(j)->name()));
    }
  }
  for (const Difference& difference : Differences()) {
    int told_elsewhere = 0;
    int hidden = 0;
    for (const Backend& backend : Backends()) {
      const std::string name = absl::StrCat("On/", difference.scenario, "/", backend.name);
      EXPECT_EQ(names.count(name), 1u) << name;
      (DifferenceOf(name, backend.name).empty() ? told_elsewhere : hidden) += 1;
    }
    EXPECT_GT(told_elsewhere, 0) << difference.scenario;
    EXPECT_GT(hidden, 0) << difference.scenario;
  }
}

}  // namespace
}  // namespace tidemark::test
