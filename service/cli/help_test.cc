#include "service/cli/help.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "service/cli/methods.h"

namespace tidemark::cli {
namespace {

std::string Page(const char* command) { return CommandHelp(Manual(), *FindMethod(command)); }

TEST(HelpTest, APageTellsWhatTheCommandDoesItsMembersAndTheirValues) {
  const std::string page = Page("blockdev-backup");
  EXPECT_TRUE(absl::StrContains(page, "Starts a job of type `backup`")) << page;
  EXPECT_TRUE(absl::StrContains(page, "  device=STRING   (required)\n      The source")) << page;
  EXPECT_TRUE(absl::StrContains(page, "\n      on-success\n")) << page;
  EXPECT_TRUE(absl::StrContains(page, "\n      x-perf.max-workers=INTEGER\n")) << page;
  EXPECT_FALSE(absl::StrContains(page, "instance=")) << "that is the flag --instance";
}

TEST(HelpTest, AUnionIsToldCaseByCaseAndARecursionOnce) {
  const std::string page = Page("blockdev-add");
  for (const char* line :
       {"  driver=NAME   (required)\n", "      driver=qcow2\n",
        "          lazy-refcounts=BOOLEAN\n", "As told above for BlockdevRef."}) {
    EXPECT_TRUE(absl::StrContains(page, line)) << line << "\n" << page;
  }
}

TEST(HelpTest, AnActionThatIsACommandIsToldOnItsOwnPage) {
  EXPECT_TRUE(
      absl::StrContains(Page("transaction"), "those of `tidemark help block-dirty-bitmap-add`"));
}

TEST(HelpTest, ADeprecatedCommandSaysWhatToUseInstead) {
  EXPECT_TRUE(absl::StrContains(Page("drive-backup"), "Deprecated. Use instead: BlockdevCreate"));
  EXPECT_TRUE(absl::StrContains(CommandList(Manual()), "(deprecated) Starts a backup to a file"));
}

TEST(HelpTest, EveryCommandHasAPageAndASentence) {
  const Manual manual;
  const std::string list = CommandList(manual);
  for (const auto* method : AllMethods()) {
    const std::string comment = manual.CommentOf(manual.Find(*method));
    EXPECT_FALSE(FirstSentence(comment).empty()) << method->full_name();
    EXPECT_TRUE(absl::StrContains(list, "  " + CommandName(*method) + " ")) << method->full_name();
    EXPECT_GT(CommandHelp(manual, *method).size(), 200u) << method->full_name();
  }
  EXPECT_TRUE(absl::StrContains(CommandListJson(manual), R"({"name":"get-job",)"));
}

TEST(HelpTest, AFirstSentenceEndsAtItsFullStop) {
  EXPECT_EQ(FirstSentence("Does this\nand that. And more.\n"), "Does this and that.");
  EXPECT_EQ(FirstSentence("Only one\n\nSecond. paragraph"), "Only one");
  EXPECT_EQ(FirstSentence(""), "");
}

}  // namespace
}  // namespace tidemark::cli
