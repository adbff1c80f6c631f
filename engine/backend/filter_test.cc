#include "engine/backend/filter.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

// A text that counts how often one is held against another.
struct Counted {
  std::string text;

  static int comparisons;
  friend bool operator==(const Counted& a, const Counted& b) {
    ++comparisons;
    return a.text == b.text;
  }
  template <typename H>
  friend H AbslHashValue(H state, const Counted& counted) {
    return H::combine(std::move(state), counted.text);
  }
};
int Counted::comparisons = 0;

TEST(Filter, AnEmptyOneLetsEverythingPassAndOthersWhatTheyHold) {
  EXPECT_TRUE(Filter<std::string>(std::vector<std::string>()).Passes(absl::string_view("a")));
  const Filter<std::string> filter(std::vector<std::string>{"a", ""});
  EXPECT_TRUE(filter.Passes(absl::string_view("a")));
  EXPECT_TRUE(filter.Passes(absl::string_view("")));
  EXPECT_FALSE(filter.Passes(absl::string_view("b")));
}

TEST(Filter, LongListsAreNotSearched) {
  constexpr int kCount = 1'000;
  std::vector<Counted> list;
  for (int i = 0; i < kCount; ++i) list.push_back({absl::StrCat("name", i)});
  const Filter<Counted> filter(list);
  Counted::comparisons = 0;
  for (const Counted& each : list) EXPECT_TRUE(filter.Passes(each));
  for (int i = 0; i < kCount; ++i) EXPECT_FALSE(filter.Passes(Counted{absl::StrCat("other", i)}));
  // A search would take half a million, and a million more.
  EXPECT_LT(Counted::comparisons, 4 * kCount);
}

}  // namespace
}  // namespace tidemark::backend
