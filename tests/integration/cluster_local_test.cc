// `dermis cluster start` and `stop`: no process is left that `stop` does not know; what of this
// machine is taken.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include <unistd.h>

#include "tests/integration/test_cluster.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

using ::testing::HasSubstr;

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

TEST(ClusterLocal, WorkersShareAQuarterOfTheMemory_OrWhatIsNamed) {
  const auto command_of = [](const TestCluster& cluster, const std::string& name) {
    return Shell(absl::StrCat("tr '\\0' ' ' < /proc/$(cut -d ' ' -f 1 ", cluster.cluster(),
                              "/pids/", name, ")/cmdline"))
        .output;
  };
  const uint64_t memory = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE));
  {
    TestCluster cluster;
    const CommandResult start = cluster.Start(2);
    ASSERT_EQ(start.exit_code, 0) << start.output;
    for (const char* name : {"worker-0", "worker-1"}) {
      EXPECT_THAT(command_of(cluster, name),
                  HasSubstr(absl::StrCat("--image-memory ", memory / 8, " ")));
    }
  }
  TestCluster cluster;
  const CommandResult start =
      cluster.Run("cluster start --workers 1 --threads 1 --image-memory 200MB");
  ASSERT_EQ(start.exit_code, 0) << start.output;
  EXPECT_THAT(command_of(cluster, "worker-0"), HasSubstr("--image-memory 200000000 "));
}

// Three GPUs that a stand-in for the driver shows; by its NVML another process computes on the
// second.
TEST(ClusterLocal, GpusThatNobodyUses_AreTaken_OrTheDevicesThatAreNamed) {
  TestCluster cluster;
  const fs::path driver = cluster.directory() / "driver";
  fs::create_directory(driver);
  for (const char* name : {"libcuda.so.1", "libnvidia-ml.so.1"})
    fs::create_symlink(DERMIS_GPU_STAND_IN, driver / name);
  const auto would = [&](const std::string& options) {
    return Shell(absl::StrCat("LD_LIBRARY_PATH=", driver.string(), " ", Program("dermis"),
                              " cluster start --dry-run --cluster ", cluster.cluster(), " ",
                              options, " 2>&1"));
  };
  EXPECT_THAT(would("").output, HasSubstr("would start coordinator, gpu-0, gpu-2 in"));
  EXPECT_THAT(would("--devices gpu:1").output, HasSubstr("would start coordinator, gpu-1 in"));
  EXPECT_THAT(would("--devices cpu --workers 2").output,
              HasSubstr("would start coordinator, worker-0, worker-1 in"));
  const CommandResult refused = cluster.Run("cluster start --devices gpu:9");
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.output, HasSubstr("there is no gpu:9"));
  EXPECT_EQ(ProcessesOf(cluster.cluster()), 0) << "a command that is refused starts nothing";
}

}  // namespace
}  // namespace dermis
