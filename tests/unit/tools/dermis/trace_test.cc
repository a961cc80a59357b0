#include "tools/dermis/trace.h"

#include <map>
#include <set>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace dermis {
namespace {

v1::HistoryEvent Ran(const std::string& task, uint64_t unix_ms, double seconds,
                     const std::vector<std::string>& workers) {
  v1::HistoryEvent event;
  event.set_kind(v1::HistoryEvent::COMPLETED);
  event.set_unix_ms(unix_ms);
  event.set_seconds(seconds);
  event.set_task(task);
  event.set_task_kind("perturb");
  for (const std::string& worker : workers) event.add_workers(worker);
  return event;
}

TEST(TraceTest, AttemptsThatOverlap_LieOnThreadsOfTheirOwn_AndAGangsAtEachOfItsWorkers) {
  v1::HistoryEvent lost;
  lost.set_kind(v1::HistoryEvent::LOST);
  lost.set_unix_ms(6000);
  lost.add_workers("w2");
  lost.set_task("training");
  lost.set_text("no beat for 5s");
  v1::HistoryEvent paused;
  paused.set_kind(v1::HistoryEvent::ADJUSTED);
  paused.set_unix_ms(7000);
  paused.set_text("paused by ann");
  // In the order in which they were stored.
  const std::vector<v1::HistoryEvent> events = {Ran("b", 1500, 1, {"w1"}), Ran("a", 1000, 1, {"w1"}),
                                                Ran("c", 2500, 1, {"w1"}),
                                                Ran("gang", 4000, 2.5, {"w1", "w2"}), lost, paused};
  const auto trace = nlohmann::json::parse(TraceJson("demo", events));
  std::map<int, std::string> processes;
  std::map<std::string, std::vector<nlohmann::json>> by_name;
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M") {
      processes[event.at("pid")] = event.at("args").at("name");
    } else {
      by_name[event.at("name")].push_back(event);
    }
  }
  const auto where = [&](const nlohmann::json& event) { return processes.at(event.at("pid")); };
  ASSERT_EQ(by_name["a"].size(), 1u);
  EXPECT_EQ(by_name["a"][0].at("ts"), 1'000'000);
  EXPECT_EQ(by_name["a"][0].at("dur"), 1'000'000);
  EXPECT_EQ(by_name["a"][0].at("tid"), 1);
  EXPECT_EQ(by_name["b"][0].at("tid"), 2) << "it began while a ran";
  EXPECT_EQ(by_name["c"][0].at("tid"), 1) << "a and b have ended";
  EXPECT_EQ(where(by_name["a"][0]), "w1");
  ASSERT_EQ(by_name["gang"].size(), 2u);
  EXPECT_EQ((std::set<std::string>{where(by_name["gang"][0]), where(by_name["gang"][1])}),
            (std::set<std::string>{"w1", "w2"}));
  ASSERT_EQ(by_name["lost: training"].size(), 1u);
  EXPECT_EQ(where(by_name["lost: training"][0]), "w2");
  EXPECT_EQ(by_name["lost: training"][0].at("args").at("text"), "no beat for 5s");
  ASSERT_EQ(by_name["adjusted"].size(), 1u);
  EXPECT_EQ(where(by_name["adjusted"][0]), "study demo");
}

TEST(TraceTest, TextThatIsNoUtf8_DoesNotBreakIt) {
  EXPECT_TRUE(nlohmann::json::accept(TraceJson("demo", {Ran("\xff", 1, 1, {"w"})})));
}

}  // namespace
}  // namespace dermis
