// `dermis cluster start` and `stop`: no process is left that `stop` does not know.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

TEST(ClusterLocal, AStarterKilledAtAnyMoment_LeavesNothingThatStopDoesNotEnd) {
  TestCluster cluster;
  const char* build = std::getenv("DERMIS_BUILD_DIR");
  const std::string dermis = absl::StrCat(build == nullptr ? "build" : build, "/bin/dermis");
  int most = 0;
  // From before the coordinator is born until after the last worker is.
  for (const char* seconds :
       {"0.02", "0.05", "0.1", "0.15", "0.2", "0.3", "0.4", "0.6", "0.8", "1.2"}) {
    const std::string command = absl::StrCat("timeout --foreground -s KILL ", seconds, " ", dermis,
                                             " cluster start --workers 3 --threads 1 --cluster ",
                                             cluster.cluster(), " > /dev/null 2>&1");
    (void)std::system(command.c_str());
    most = std::max(most, ProcessesOf(cluster.cluster()));
    EXPECT_EQ(cluster.Stop().exit_code, 0);
    EXPECT_EQ(ProcessesOf(cluster.cluster()), 0) << "killed after " << seconds << " s";
  }
  EXPECT_GT(most, 0) << "no starter lived long enough to start anything";
}

TEST(ClusterLocal, AfterAKilledStarter_TheSameCommandCompletesTheCluster) {
  TestCluster cluster;
  const char* build = std::getenv("DERMIS_BUILD_DIR");
  (void)std::system(absl::StrCat("timeout --foreground -s KILL 0.3 ",
                                 build == nullptr ? "build" : build,
                                 "/bin/dermis cluster start --workers 2 --threads 1 --cluster ",
                                 cluster.cluster(), " > /dev/null 2>&1")
                        .c_str());
  const CommandResult start = cluster.Start(2);
  EXPECT_EQ(start.exit_code, 0) << start.output;
  // A coordinator, two supervisors, two workers.
  EXPECT_EQ(ProcessesOf(cluster.cluster()), 5);
}

}  // namespace
}  // namespace dermis
