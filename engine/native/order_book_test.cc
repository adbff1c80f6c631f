#include "engine/native/order_book.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::native {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Id = OrderBook::TicketId;

// Nodes that are joined to parts by hand, and that lie at places.
class FakeWorld final : public OrderBook::World {
 public:
  void BeginLook() override { ++looks; }
  void AddParts(const OrderKey& key, std::vector<std::string>* parts) override {
    parts->push_back(absl::StrCat(static_cast<int>(key.kind), PartOf(key.name)));
  }
  void AddPlaces(const OrderKey& key, absl::flat_hash_set<std::string>* places) override {
    const auto found = place.find(key.name);
    if (found != place.end()) places->insert(found->second);
  }
  std::string PartOf(const std::string& name) const {
    const auto found = part.find(name);
    return found == part.end() ? name : found->second;
  }

  std::map<std::string, std::string> part;
  std::map<std::string, std::string> place;
  int looks = 0;
};

class OrderBookTest : public testing::Test {
 protected:
  Id Add(std::initializer_list<std::string> nodes) {
    OrderBook::Keys keys;
    for (const std::string& name : nodes) keys.push_back({.name = name});
    return book.Add(std::move(keys));
  }

  FakeWorld world;
  OrderBook book{&world, {.running_max = 8, .running_per_place_max = 2}};
};

TEST_F(OrderBookTest, TicketsWithoutCommonKeysRunSideBySide) {
  const Id a = Add({"a"});
  const Id b = Add({"b"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(a, b));
  EXPECT_EQ(book.running_count(), 2u);
}

TEST_F(OrderBookTest, TicketsWithACommonKeyRunOneAtATimeInOrder) {
  const Id first = Add({"a"});
  const Id second = Add({"a", "b"});
  const Id third = Add({"b"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(first));
  EXPECT_THAT(book.TakeReady(), IsEmpty());
  book.Remove(first);
  EXPECT_THAT(book.TakeReady(), ElementsAre(second));
  book.Remove(second);
  EXPECT_THAT(book.TakeReady(), ElementsAre(third));
}

TEST_F(OrderBookTest, NamesOfDifferentKindsAreDifferentKeys) {
  const Id node = book.Add({{.kind = OrderKey::Kind::kNode, .name = "x"}});
  const Id exported = book.Add({{.kind = OrderKey::Kind::kExport, .name = "x"}});
  EXPECT_THAT(book.TakeReady(), ElementsAre(node, exported));
}

TEST_F(OrderBookTest, WhatIsConnectedIsOneKey) {
  world.part = {{"overlay", "base"}, {"base", "base"}};
  const Id overlay = Add({"overlay"});
  const Id base = Add({"base"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(overlay));
  book.Remove(overlay);
  EXPECT_THAT(book.TakeReady(), ElementsAre(base));
}

TEST_F(OrderBookTest, WhatWasConnectedWhileATicketWaitedIsOneKeyWhenItMayStart) {
  const Id add = Add({"overlay", "base"});  // It will connect the two.
  const Id overlay = Add({"overlay"});
  const Id base = Add({"base"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(add));
  world.part = {{"overlay", "base"}};
  book.Remove(add);
  EXPECT_THAT(book.TakeReady(), ElementsAre(overlay));
  book.Remove(overlay);
  EXPECT_THAT(book.TakeReady(), ElementsAre(base));
}

TEST_F(OrderBookTest, ThoseWhoShareAKeyWaitForThoseWhoDoNot) {
  const auto shared = [&] {
    return book.Add({{.kind = OrderKey::Kind::kServer, .name = "", .shared = true}});
  };
  const auto alone = [&] { return book.Add({{.kind = OrderKey::Kind::kServer, .name = ""}}); };
  const Id start = alone();
  const Id export1 = shared();
  const Id export2 = shared();
  const Id stop = alone();
  const Id export3 = shared();
  EXPECT_THAT(book.TakeReady(), ElementsAre(start));
  book.Remove(start);
  EXPECT_THAT(book.TakeReady(), ElementsAre(export1, export2));
  book.Remove(export1);
  EXPECT_THAT(book.TakeReady(), IsEmpty());
  book.Remove(export2);
  EXPECT_THAT(book.TakeReady(), ElementsAre(stop));
  book.Remove(stop);
  EXPECT_THAT(book.TakeReady(), ElementsAre(export3));
}

TEST_F(OrderBookTest, APlaceThatHangsTakesNoMoreThanItsShare) {
  std::vector<Id> hung;
  for (int i = 0; i < 20; ++i) {
    const std::string name = absl::StrCat("hung", i);
    world.place[name] = "/nfs";
    hung.push_back(Add({name}));
  }
  world.place["healthy"] = "/";
  const Id healthy = Add({"healthy"});
  const Id after_hung = Add({"hung5"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(hung[0], hung[1], healthy));
  // In order also here: what waits for its place is waited for.
  book.Remove(hung[0]);
  EXPECT_THAT(book.TakeReady(), ElementsAre(hung[2]));
  for (int i = 1; i < 5; ++i) {
    book.Remove(hung[i]);
    book.TakeReady();
  }
  book.Remove(hung[5]);
  book.Remove(hung[6]);
  EXPECT_THAT(book.TakeReady(), ElementsAre(hung[7], hung[8]));
  EXPECT_EQ(book.Waiting().back(), after_hung);
}

TEST_F(OrderBookTest, NoMoreThanTheLimitRunAtATime) {
  std::vector<Id> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(Add({absl::StrCat("n", i)}));
  EXPECT_EQ(book.TakeReady().size(), 8u);
  EXPECT_EQ(book.waiting_count(), 4u);
  book.Remove(ids[3]);
  EXPECT_THAT(book.TakeReady(), ElementsAre(ids[8]));
}

TEST_F(OrderBookTest, ATicketThatIsNotWantedAnyMoreHoldsNobodyUp) {
  const Id first = Add({"a"});
  const Id second = Add({"a", "b"});
  const Id third = Add({"b"});
  EXPECT_THAT(book.TakeReady(), ElementsAre(first));
  book.Remove(second);
  EXPECT_THAT(book.TakeReady(), ElementsAre(third));
}

// Random tickets over nodes that are joined and parted as they run. The model: a ticket is in the
// way of a later one if the sets of parts that they name meet, and every one is served in the end.
class RandomBook {
 public:
  explicit RandomBook(uint32_t seed) : random_(seed) {
    for (int i = 0; i < kNodes; ++i) world_.place[Name(i)] = absl::StrCat("place", i % 3);
  }

  void Run() {
    for (int step = 0; step < 400 && !testing::Test::HasFailure(); ++step) {
      switch (Below(4)) {
        case 0:
          if (all_.size() < kTicketsMax) AddTicket();
          break;
        case 1:
          if (!running_.empty()) End();
          break;
        case 2:
          if (!running_.empty()) ChangeOwnPart();
          break;
        default:
          Start();
      }
    }
    // Nobody is forgotten.
    while (!all_.empty() && !testing::Test::HasFailure()) {
      Start();
      ASSERT_FALSE(running_.empty()) << all_.size() << " wait for nothing";
      End();
    }
  }

 private:
  static constexpr int kNodes = 9;

  static std::string Name(int i) { return absl::StrCat("n", i); }
  int Below(int bound) { return static_cast<int>(random_() % bound); }

  std::set<std::string> PartsOf(const std::set<std::string>& names) const {
    std::set<std::string> parts;
    for (const std::string& name : names) parts.insert(world_.PartOf(name));
    return parts;
  }
  static bool Meet(const std::set<std::string>& a, const std::set<std::string>& b) {
    return std::any_of(a.begin(), a.end(), [&](const auto& x) { return b.count(x) != 0; });
  }

  void AddTicket() {
    std::set<std::string> names;
    for (int i = 0; i <= Below(3); ++i) names.insert(Name(Below(kNodes)));
    OrderBook::Keys keys;
    for (const std::string& name : names) keys.push_back({.name = name});
    all_[book_.Add(std::move(keys))] = names;
  }

  void End() {
    const auto at = std::next(running_.begin(), Below(running_.size()));
    book_.Remove(*at);
    all_.erase(*at);
    running_.erase(at);
  }

  // One that runs joins two of its nodes, or makes one stand alone.
  void ChangeOwnPart() {
    const auto at = std::next(running_.begin(), Below(running_.size()));
    const std::set<std::string>& names = all_[*at];
    if (Below(2) == 0) {
      const std::string to = world_.PartOf(*names.begin());
      for (const std::string& name : names) {
        const std::string from = world_.PartOf(name);
        for (int i = 0; i < kNodes; ++i) {
          if (world_.PartOf(Name(i)) == from) world_.part[Name(i)] = to;
        }
      }
    } else {
      // Its part falls apart: those of it that nobody names are free.
      const std::set<std::string> parts = PartsOf(names);
      for (int i = 0; i < kNodes; ++i) {
        if (parts.count(world_.PartOf(Name(i))) != 0) world_.part[Name(i)] = Name(i);
      }
    }
  }

  void Start() {
    const std::vector<Id> started = book_.TakeReady();
    for (const Id id : started) {
      for (const auto& [other, names] : all_) {
        if (other >= id) break;
        ASSERT_FALSE(Meet(PartsOf(names), PartsOf(all_[id])))
            << "ticket " << id << " began before " << other << " was over";
      }
      running_.insert(id);
    }
    // Nobody waits for nothing.
    for (const auto& [id, names] : all_) {
      if (running_.count(id) != 0) continue;
      bool must_wait = running_.size() >= kRunningMax || IsPlaceFull(names);
      for (const auto& [other, others] : all_) {
        if (other >= id) break;
        must_wait = must_wait || Meet(PartsOf(others), PartsOf(names));
      }
      ASSERT_TRUE(must_wait) << "ticket " << id << " waits for nothing";
    }
  }

  bool IsPlaceFull(const std::set<std::string>& names) {
    std::map<std::string, int> counts;
    for (const Id id : running_) {
      std::set<std::string> places;
      for (const std::string& name : all_[id]) places.insert(world_.place[name]);
      for (const std::string& place : places) ++counts[place];
    }
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return counts[world_.place[name]] >= kPlaceMax;
    });
  }

  static constexpr size_t kTicketsMax = 20;
  static constexpr size_t kRunningMax = 5;
  static constexpr int kPlaceMax = 3;

  std::mt19937 random_;
  FakeWorld world_;
  OrderBook book_{&world_, {.running_max = kRunningMax, .running_per_place_max = kPlaceMax}};
  std::map<Id, std::set<std::string>> all_;
  std::set<Id> running_;
};

TEST(OrderBookModelTest, RandomTicketsKeepTheOrderAndNobodyWaitsForNothing) {
  for (uint32_t seed = 0; seed < 50 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomBook(seed).Run();
  }
}

}  // namespace
}  // namespace tidemark::native
